"""Predicted completion, position and work against what then happens."""

import random

import pytest
from hypothesis import given, settings

from tests.scheduling.clock import play
from tests.scheduling.test_invariants import COSTS, jobs
from videogen.scheduling.costs import Affine
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Scheduler


@pytest.mark.parametrize("ahead", [0, 1, 20, 200])
def test_what_is_foretold_at_admission_is_told_after_it_and_comes(ahead):
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


def test_most_foretold_times_are_nearly_right():
    ratios = sorted(foretold_over_real(seed) for seed in range(300))
    assert ratios[len(ratios) // 2] == pytest.approx(1, abs=0.02)
    assert ratios[len(ratios) // 4] > 0.95
    assert ratios[3 * len(ratios) // 4] < 1.1
    assert ratios[len(ratios) // 20] > 0.5
    assert ratios[-len(ratios) // 20] < 1.75


def foretold_over_real(seed: int) -> float:
    chance, costs = random.Random(seed), Affine(0.04, 0.005)
    ahead, keys = chance.choice((0, 1, 3, 8, 15, 30, 100, 300)), chance.choice((1, 2, 5))
    steps = chance.choice(((4,), (10,), (4, 16), (10, 20, 40)))
    classes = ("interactive", "standard", "batch") if chance.random() < 0.3 else ("standard",)
    deadlines = chance.random() < 0.5
    scheduler = Scheduler(costs)
    for number in range(ahead):
        deadline = chance.choice((None, chance.uniform(1, 300))) if deadlines else None
        key, priority = chance.randrange(keys), chance.choice(classes)
        scheduler.add(Job(str(number), key, chance.choice(steps), priority=priority, deadline=deadline), 0.0)
    new = Job("new", chance.randrange(keys), chance.choice(steps))
    foretold = scheduler.completion(new, 0.0)
    scheduler.add(new, 0.0)
    return foretold / play(scheduler, [], costs).ended["new"]


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
