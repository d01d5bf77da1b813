import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduling.clock import play
from tests.scheduling.closed_loop import Closed, closed_loop
from videogen.scheduling.arrivals import bursty
from videogen.scheduling.costs import Affine
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import WorthHolding
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.run import Hold
from videogen.scheduling.scheduler import Scheduler

COSTS = Affine(0.04, 0.005)


def holding(rate, *, costs=COSTS, bound_s=0.05):
    forecast = Forecast()
    for number in range(int(60 * rate)):
        forecast.arrived("k", number / rate)
    return WorthHolding(forecast, costs, bound_s=bound_s)


def test_it_waits_for_those_who_come_soon_and_not_for_others():
    assert 0 < holding(100).seconds("k", 1, 16, math.inf, 60) <= 0.05
    assert holding(1).seconds("k", 1, 16, math.inf, 60) == 0
    assert holding(100).seconds("another", 1, 16, math.inf, 60) == 0


def test_a_full_batch_or_a_device_on_which_batches_do_not_pay_is_not_held():
    assert holding(100).seconds("k", 16, 16, math.inf, 60) == 0
    assert holding(100, costs=Affine(0.0, 0.04)).seconds("k", 1, 16, math.inf, 60) == 0


def test_the_gain_is_the_call_that_is_spared():
    """With a fixed cost a, waiting w at a rate r gains a·(1 − exp(−r·w)) − w, most at w = ln(r·a) / r."""
    rate = 50.0
    best = math.log(rate * 0.04) / rate
    assert holding(rate).seconds("k", 1, 2, math.inf, 60) == pytest.approx(best, abs=1 / rate)


@settings(deadline=None)
@given(
    st.floats(0.1, 1000), st.integers(1, 20), st.integers(1, 20), st.floats(-1, 1), st.floats(0, 0.2), st.floats(0, 0.2)
)
def test_it_never_passes_the_slack_or_the_bound(rate, present, wanted, slack, bound_s, fixed):
    seconds = holding(rate, costs=Affine(fixed, 0.005), bound_s=bound_s).seconds("k", present, wanted, slack, 60)
    assert 0 <= seconds <= max(0.0, min(bound_s, slack))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**20), st.floats(5, 80), st.floats(0.085, 2))
def test_what_was_held_ends_by_its_deadline(seed, rate, within):
    costs = Affine(0.04, 0.005, largest=8)
    forecast, held = Forecast(memory_s=1.0), set()
    scheduler = Scheduler(costs, Policy(hold_max_s=0.1), holding=WorthHolding(forecast, costs, bound_s=0.1))
    jobs = [Job(str(n), "k", 1, arrived=at, deadline=at + within) for n, at in enumerate(bursty(rate, 3, seed))]
    for job in jobs:  # it knows what comes, and so holds more than it would otherwise
        forecast.arrived("k", job.arrived)

    def after(now, choice):
        if isinstance(choice, Hold):
            held.update(job.id for job in jobs if job.arrived <= now and job.id in scheduler._live.jobs)

    played = play(scheduler, jobs, costs, after=after)
    assert all(until - start <= 0.1 + 1e-9 for start, until in played.held)
    assert all(played.ended[job.id] <= job.arrived + within + 1e-9 for job in jobs if job.id in held)


@pytest.mark.parametrize("callers", [1, 2])
def test_callers_who_wait_for_their_answers_are_not_waited_for_in_vain(callers):
    load = Closed(callers, steps=1, back_s=0.001, each_s=0.001, costs=Affine(0.04, 0.001))
    assert closed_loop(load, hold=True).rate >= 0.98 * closed_loop(load, hold=False).rate


@pytest.mark.parametrize("callers", [4, 8, 12])
def test_how_many_come_together_is_learned(callers):
    """By the forecast alone, which takes arrivals to be independent, 8 and 12 callers gain a fifth."""
    load = Closed(callers, steps=1, back_s=0.001, each_s=0.001, costs=Affine(0.04, 0.001))
    assert closed_loop(load, hold=True).rate >= 1.3 * closed_loop(load, hold=False).rate


@pytest.mark.parametrize("callers", [4, 6, 8])
def test_few_callers_go_on_together(callers):
    """Without a hold each misses the call after its answer: five calls for a video of four."""
    load = Closed(callers)
    assert closed_loop(load, hold=True).rate >= 1.04 * closed_loop(load, hold=False).rate


@pytest.mark.parametrize("each_s", [0.0005, 0.005])
@pytest.mark.parametrize("back_s", [0.002, 0.03])
@pytest.mark.parametrize("callers", [1, 2, 5, 9, 16, 24])
def test_holding_for_callers_does_no_harm(callers, back_s, each_s):
    load = Closed(callers, back_s=back_s, each_s=each_s)
    assert closed_loop(load, hold=True).rate >= 0.98 * closed_loop(load, hold=False).rate


def test_callers_who_are_not_punctual_are_waited_for_a_little_longer():
    load = Closed(4, back_s=0.005, jitter_s=0.002)
    assert closed_loop(load, hold=True).rate >= 1.05 * closed_loop(load, hold=False).rate


def test_callers_who_are_late_by_less_than_the_call_that_they_would_miss_are_waited_for_again():
    load = Closed(4, back_s=0.008, each_s=0.0015, jitter_s=0.004)
    assert closed_loop(load, hold=True).rate >= 1.03 * closed_loop(load, hold=False).rate


@pytest.mark.parametrize("deadline_s", [0.25, 0.3, 0.5])
def test_callers_with_deadlines_miss_no_more_of_them(deadline_s):
    for callers in (3, 4, 8):
        load = Closed(callers, deadline_s=deadline_s)
        assert closed_loop(load, hold=True).missed <= closed_loop(load, hold=False).missed


def test_what_was_changed_or_took_steps_before_is_nobody_who_comes():
    kept = holding(100)
    scheduler = Scheduler(COSTS, holding=kept)
    before = kept.forecast.rate("k", 60.0)
    scheduler.add(Job("started", "k", 4, steps_done=1), 60.0)
    scheduler.add(Job("changed", "k", 4, is_new=False), 60.0)
    assert kept.forecast.rate("k", 60.0) == before
    scheduler.add(Job("new", "k", 4), 60.0)
    assert kept.forecast.rate("k", 60.0) > before


def test_started_generations_are_held_for_callers_alone():
    kept = holding(100)
    assert kept.seconds("k", 1, 16, math.inf, 60) > 0
    assert kept.seconds("k", 1, 16, math.inf, 60, started=True) == 0
