"""Predicted completion, position and work against what then happens."""

import pytest
from hypothesis import given, settings

from tests.scheduling.clock import play
from tests.scheduling.test_invariants import COSTS, jobs
from videogen.scheduling.costs import Affine
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Scheduler


@pytest.mark.parametrize("ahead", [0, 1, 20, 200])
def test_completion_is_foretold_not_early_and_not_twice_too_late(ahead):
    costs, scheduler = Affine(0.04, 0.005), Scheduler(Affine(0.04, 0.005))
    for number in range(ahead):
        scheduler.add(Job(str(number), "xy"[number % 2], 10 if number % 5 else 40), 0.0)
    new = Job("new", "x", 40, deadline=1e6)
    foretold = scheduler.completion(new, 0.0)
    scheduler.add(new, 0.0)
    assert scheduler.eta("new", 0.0) == pytest.approx(foretold)
    assert scheduler.position("new") == ahead
    played = play(scheduler, [], costs)
    assert 0.5 * foretold <= played.ended["new"] <= 1.05 * foretold


def test_an_urgent_request_is_not_told_the_whole_queue():
    scheduler = Scheduler(Affine(0.04, 0.005))
    for number in range(500):
        scheduler.add(Job(str(number), "x", 40, priority="batch"), 0.0)
    assert scheduler.completion(Job("now", "y", 4, priority="interactive"), 0.0) < 0.5
    assert scheduler.completion(Job("later", "y", 4, priority="batch", deadline=1e9), 0.0) > 100


@given(jobs(tenants="a"))
@settings(max_examples=60, deadline=None)
def test_work_is_what_the_device_then_needs_and_positions_are_a_ranking(arrivals):
    scheduler = Scheduler(COSTS)
    for job in arrivals:
        scheduler.add(job, job.arrived)
    positions = sorted(scheduler.position(job.id) for job in arrivals)
    assert positions == list(range(len(arrivals)))
    assert scheduler.position("nobody") is None
    assert scheduler.eta("nobody", 0.0) is None
    work = scheduler.work(0.0)
    shares = sum(job.steps * COSTS.step(job.key, 4, 1) / 4 for job in arrivals)
    assert work == pytest.approx(shares)
    played = play(scheduler, [], COSTS)
    assert max(played.ended.values()) >= work - 1e-9


def test_the_steps_that_are_done_count_no_more():
    scheduler = Scheduler(Affine(0.04, 0.005), Policy(fused_max_s=0))
    scheduler.add(Job("a", "x", 10), 0.0)
    before, now = scheduler.work(0.0), 0.0
    for _ in range(9):
        run = scheduler.next(now)
        now += 0.045
        scheduler.stepped(run, 0.045, now)
    assert scheduler.work(now) == pytest.approx(before / 10)
    assert scheduler.eta("a", now) == pytest.approx(0.045)
