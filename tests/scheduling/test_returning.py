import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videogen.scheduling.costs import Affine
from videogen.scheduling.returning import MARGIN_S, SEEN, Returns, _Delays

COSTS = Affine(0.04, 0.005)
RUN_S = [COSTS.step("k", batch, 1) for batch in range(1, 17)]


def known(count, delay, times=SEEN):
    """Who has seen callers, so many at a time, come back after such a delay; the last end is at 0."""
    returns = Returns(0.05)
    for number in range(times, 0, -1):
        returns.ended("k", count, -number)
        for _ in range(count):
            returns.arrived("k", -number + delay)
    returns.ended("k", count, 0.0)
    return returns


@pytest.mark.parametrize(("present", "more", "wait"), [(1, 3, 0.012), (2, 2, 0.018), (8, 8, 0.018), (1, 1, 0.015)])
def test_the_gain_is_what_theory_says(present, more, wait):
    gain, held = known(more, wait).best("k", present, RUN_S, 0.05, 0.0)
    assert held == pytest.approx(wait + MARGIN_S)
    assert gain == pytest.approx(0.04 * more / (present + more) - held, abs=0.002)


@pytest.mark.parametrize(("present", "more", "wait"), [(3, 1, 0.012), (2, 2, 0.021), (1, 3, 0.031)])
def test_nobody_is_waited_for_where_it_takes_longer_than_it_spares(present, more, wait):
    assert known(more, wait).best("k", present, RUN_S, 0.05, 0.0) == (0.0, 0.0)


def test_who_is_in_the_call_or_did_not_come_is_not_expected():
    returns = known(2, 0.01)
    assert returns.expected("k", 0.0, 0.05)[-1][1] == pytest.approx(2, rel=0.05)
    returns.arrived("k", 0.01)
    assert returns.expected("k", 0.009, 0.05)[-1][1] == pytest.approx(1, rel=0.05)
    assert not returns.expected("k", 0.011, 0.05)
    for number in range(1, SEEN):
        returns.ended("k", 2, number)
    returns.ended("k", 2, SEEN)
    assert returns.expected("k", SEEN, 0.05) == []
    returns.forget("k")
    assert returns.expected("k", SEEN, 0.05) == []


def test_many_are_not_expected_as_soon_as_few():
    returns = known(1, 0.005)
    returns.arrived("k", 0.005)
    returns.ended("k", 4, 1.0)
    assert returns.expected("k", 1.0, 0.05) == []


def test_independent_arrivals_are_expected_at_their_rate():
    """Of 20 a second, one in 50 ms; those who are away are as many as that at most."""
    chance, returns, now = random.Random(1), Returns(0.05), 0.0
    arrives = chance.expovariate(20)
    for number in range(5000):
        now = 0.06 * number
        while arrives < now:
            returns.arrived("k", arrives)
            arrives += chance.expovariate(20)
        returns.ended("k", 1, now)
    assert returns.expected("k", now, 0.02)[-1][1] == pytest.approx(1 - 2.718 ** (-20 * 0.02), abs=0.1)


@settings(deadline=None)
@given(st.lists(st.floats(0, 1), max_size=3 * SEEN), st.floats(0, 1), st.floats(0, 1))
def test_delays_are_those_that_were_seen_last(seen, least, more):
    delays = _Delays()
    for delay in seen:
        delays.add(delay)
    last = seen[-SEEN:]
    assert delays.between(least, least + more) == (
        sorted(delay for delay in last if least < delay <= least + more),
        sum(delay > least for delay in last),
    )
