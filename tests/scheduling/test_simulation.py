import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videogen.scheduling.arrivals import Kind, Request, bursty, poisson, requests
from videogen.scheduling.costs import Affine
from videogen.scheduling.policy import Policy
from videogen.scheduling.simulation.fleet import Fleet, FrontCosts, StoreCosts, capacity
from videogen.scheduling.simulation.simulate import simulate

COSTS = Affine(0.04, 0.005)
VIDEO = Kind("video", 4)
MIX = (Kind("short", 4, 0.8), Kind("long", 16, 0.2))


def test_one_device_one_at_a_time_is_the_queue_of_theory():
    """M/D/1, Pollaczek and Khinchine: the mean time is D + ρ·D / (2·(1 − ρ))."""
    service, load = 0.1, 0.7
    fleet = Fleet(Affine(service, 0.0, largest=1), hold=False)
    outcome = simulate(fleet, requests(poisson(load / service, 4_000, 3), [Kind("one", 1)]), 4_000)
    mean = sum(outcome.latencies["one"]) / outcome.completed
    assert mean == pytest.approx(service + load * service / (2 * (1 - load)), rel=0.05)
    assert outcome.utilisation == pytest.approx(load, rel=0.02)


@settings(max_examples=40, deadline=None)
@given(
    devices=st.integers(1, 5),
    streams=st.integers(1, 3),
    rate=st.floats(1, 150),
    repeats=st.floats(0, 0.9),
    queue_s=st.sampled_from((0.0, 0.2, math.inf)),
    videos_per_s=st.sampled_from((20.0, math.inf)),
    hold=st.booleans(),
    deadline_s=st.sampled_from((None, 0.005, 0.3, 1.0)),
    seed=st.integers(0, 99),
)
def test_what_arrived_was_answered_or_refused_or_missed_its_deadline_or_is_still_there(
    devices, streams, rate, repeats, queue_s, videos_per_s, hold, deadline_s, seed
):
    fleet = Fleet(
        COSTS, devices, streams, hold=hold, queue_s=queue_s, store=StoreCosts(videos_per_s, 0.01, cached_s=0.002)
    )
    mix = [replace(kind, deadline_s=deadline_s) for kind in MIX]
    outcome = simulate(fleet, requests(bursty(rate, 4, seed), mix, repeats=repeats, seed=seed), 4)
    assert outcome.arrived == sum(1 for _ in bursty(rate, 4, seed))
    assert outcome.arrived == outcome.completed + outcome.refused + outcome.missed + outcome.still_there
    assert outcome.completed == sum(map(len, outcome.latencies.values()))
    assert outcome.still_there >= 0
    assert outcome.good <= outcome.completed
    if deadline_s is None:
        assert not outcome.missed
    else:
        assert all(latencies[-1] <= deadline_s + 1e-9 for latencies in outcome.latencies.values())


def test_a_device_whose_jobs_were_all_dropped_takes_others():
    video = Kind("video", 4, deadline_s=0.1)
    fleet = Fleet(COSTS, window=1)
    outcome = simulate(fleet, [Request(0.0, video), Request(1.0, Kind("video", 4))], 5)
    assert (outcome.missed, outcome.completed) == (1, 1)


def test_what_is_late_for_its_deadline_leaves_its_place_to_who_can_be_in_time():
    alone = 4 * COSTS.step("x", 1, 1)
    video = Kind("video", 4, deadline_s=3 * alone)
    outcome = simulate(Fleet(COSTS), requests(poisson(40.0, 30, 3), [video]), 30)
    assert outcome.throughput > 0.7 * capacity(Fleet(COSTS), video)
    assert outcome.missed + outcome.completed + outcome.still_there == outcome.arrived


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 8), st.floats(10, 400), st.integers(0, 99))
def test_twice_the_devices_never_answer_less(devices, rate, seed):
    def completed(count):
        load = requests(poisson(rate, 10, seed), MIX, seed=seed)
        return simulate(Fleet(COSTS, count, hold=False), load, 10).completed

    few, many = completed(devices), completed(2 * devices)
    assert many >= 0.98 * few - 2  # of the last ones a few more may be under way at the end


def test_requests_and_answers_take_turns_at_the_process_before_a_device():
    """Four at once: each is in the queue 10 ms after the one before; one step takes 45 ms, so the first runs alone."""
    fleet = Fleet(COSTS, front=FrontCosts(accept_s=0.01, answer_s=0.02, way_s=0.1), hold=False)
    outcome = simulate(fleet, [Request(0.0, Kind("one", 1))] * 4, 10)
    together = 0.01 + 0.045 + COSTS.step("default", 3, 1)
    answered = [0.055 + 0.02, *[together + 3 * 0.02] * 3]
    assert outcome.latencies["one"] == pytest.approx([one + 0.1 for one in answered])


def test_the_same_seed_gives_the_same():
    def outcome(seed):
        load = requests(poisson(60, 20, seed), MIX, repeats=0.3, seed=seed)
        return simulate(Fleet(COSTS, 3), load, 20)

    assert outcome(1) == outcome(1) != outcome(2)


def test_repeats_cost_no_device_time():
    def outcome(repeats):
        return simulate(Fleet(COSTS), requests(poisson(15, 60, 1), [VIDEO], repeats=repeats, seed=1), 60)

    none, some = outcome(0.0), outcome(0.6)
    assert none.cached == none.joined == 0
    assert (some.cached + some.joined) / some.completed == pytest.approx(0.6, abs=0.05)
    assert some.busy_s < none.busy_s


def test_devices_that_are_never_idle_give_their_capacity():
    fleet = Fleet(COSTS, 2, hold=False)
    outcome = simulate(fleet, requests(poisson(150, 60, 1), [VIDEO]), 60)
    assert outcome.throughput == pytest.approx(2 * capacity(fleet, VIDEO), rel=0.05)
    assert outcome.limit == "devices"


def test_more_devices_do_not_help_where_the_store_is_the_limit():
    store = StoreCosts(videos_per_s=50, claim_s=0.01)

    def outcome(devices):
        return simulate(Fleet(COSTS, devices, store=store), requests(poisson(100, 30, 1), [VIDEO]), 30)

    for devices in (5, 20):
        assert outcome(devices).limit == "store"
        assert outcome(devices).throughput == pytest.approx(50, rel=0.05)


def test_a_bounded_queue_refuses_what_would_wait_too_long():
    load = list(requests(poisson(100, 60, 1), [VIDEO]))
    bounded, unbounded = (simulate(Fleet(COSTS, queue_s=bound), load, 60) for bound in (1.0, math.inf))
    assert unbounded.refused == 0 < bounded.refused
    assert bounded.percentile(1) < 4 < unbounded.percentile(1)


def test_a_batch_bound_is_kept():
    outcome = simulate(Fleet(COSTS, policy=Policy(batch_max=3)), requests(poisson(100, 10, 1), [VIDEO]), 10)
    assert max(outcome.batches) == 3


@pytest.mark.parametrize("make", [poisson, bursty])
def test_arrivals_come_at_the_rate_in_order_and_in_time(make):
    times = list(make(30, 1000, 5))
    assert len(times) == pytest.approx(30_000, rel=0.07)
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 1000


def test_bursts_are_burstier_than_poisson():
    def dispersion(times):
        counts = [0] * 1000
        for time in times:
            counts[int(time)] += 1
        mean = sum(counts) / len(counts)
        return sum((count - mean) ** 2 for count in counts) / len(counts) / mean

    assert dispersion(poisson(30, 1000, 5)) < 1.2
    assert dispersion(bursty(30, 1000, 5)) > 3
