"""Who is to blame for a death of the engine process, without one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from videogen.serving.making.suspects import MOST_DEATHS, Suspects

MOST_ATTEMPTS = 3


def test_what_was_in_a_call_is_blamed_and_what_waited_is_not():
    suspects = Suspects()
    assert suspects.died({"a", "gone"}, ["a", "b", "c"]) == ["a"]
    assert suspects.next(["b", "c"], (), is_idle=True) == ["b", "c"]
    assert not suspects.holds_back


def test_what_alone_was_held_is_blamed_although_nothing_was_told_of_it():
    assert Suspects().died((), ["a"]) == ["a"]


def test_everything_waits_until_a_suspect_has_been_alone():
    suspects = Suspects()
    assert suspects.next(["a", "b"], {"b"}, is_idle=False) == []
    assert suspects.holds_back
    assert suspects.next(["a", "b"], {"b"}, is_idle=True) == ["b"]
    assert suspects.next(["a"], (), is_idle=False) == []
    suspects.ended("b")
    assert suspects.next(["a"], (), is_idle=True) == ["a"]
    assert not suspects.holds_back


@given(st.integers(0, 8), st.integers(0, 8), st.data())
def test_a_killer_ends_after_a_bounded_number_of_deaths_and_no_bystander_fails_for_it(bystanders, at, data):
    suspects, attempts, finished, failed, deaths = Suspects(), Counter[str](), set[str](), set[str](), 0
    waiting = [str(number) for number in range(bystanders)]
    waiting.insert(min(at, bystanders), "killer")
    while waiting:
        last = {one for one in waiting if attempts[one] == MOST_ATTEMPTS - 1}
        taken = suspects.next(waiting, last, is_idle=True)
        assert taken, "nothing is given, for ever"
        if "killer" not in taken:
            finished.update(taken)
            for one in taken:
                suspects.ended(one)
        else:
            deaths += 1
            busy = data.draw(st.sets(st.sampled_from(taken)), label="known to be in a call")
            for one in suspects.died(busy, taken):
                attempts[one] += 1
                if attempts[one] == MOST_ATTEMPTS:
                    failed.add(one)
        waiting = [one for one in waiting if one not in finished | failed]
    assert failed == {"killer"}
    assert deaths <= MOST_ATTEMPTS * (MOST_DEATHS + 1)
