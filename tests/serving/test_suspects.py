"""Who is to blame for a death of the engine process, without one."""

from hypothesis import given
from hypothesis import strategies as st

from videogen.serving.suspects import MOST_DEATHS, Suspects


def test_what_was_in_a_call_is_blamed_and_what_waited_is_not():
    suspects = Suspects()
    assert suspects.died({"a", "gone"}, ["a", "b", "c"]) == ["a"]
    assert suspects.next("bc") == ["b", "c"] and suspects.alone is None


def test_what_alone_was_held_is_blamed_although_nothing_was_told_of_it():
    assert Suspects().died((), ["a"]) == ["a"]


@given(st.sets(st.integers(0, 9)), st.integers(0, 9), st.data())
def test_a_killer_of_which_no_word_comes_is_blamed_after_a_bounded_number_of_deaths(bystanders, at, data):
    suspects, killer, deaths = Suspects(), "killer", 0
    waiting = [str(one) for one in sorted(bystanders)]
    waiting.insert(min(at, len(waiting)), killer)
    while killer in waiting:
        given_now = suspects.next(waiting)
        assert given_now, "nothing is given, for ever"
        if killer not in given_now:
            waiting = [one for one in waiting if one not in given_now]
            for one in given_now:
                suspects.ended(one)
            continue
        deaths += 1
        stale = data.draw(st.sets(st.sampled_from(given_now))) - {killer} if given_now != [killer] else set()
        blamed = suspects.died(stale, given_now)
        assert set(blamed) <= stale | {killer}
        waiting = [one for one in waiting if one not in blamed]
    assert deaths <= MOST_DEATHS + 1
