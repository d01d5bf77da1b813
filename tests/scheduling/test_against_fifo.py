"""Short requests among long ones: step-level scheduling against batches that run from first step to last."""

import random

from tests.scheduling.clock import play
from videogen.scheduling.costs import Affine, batch_that_pays
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Scheduler

COSTS = Affine(0.04, 0.005)
SHORT, LONG = 4, 50


def mix(load: float, long: int = LONG, seed: int = 7, count: int = 800) -> list[Job]:
    """Poisson arrivals, four of five short, at so much of what full batches can do."""
    chance, now, made = random.Random(seed), 0.0, []
    each = (0.8 * SHORT + 0.2 * long) * COSTS.step("x", 16, 1) / 16
    for number in range(count):
        now += chance.expovariate(load / each)
        made.append(Job(str(number), "x", SHORT if chance.random() < 0.8 else long, arrived=now))
    return made


def fifo(arrivals: list[Job]) -> dict[str, float]:
    """Request-level batching: up to 16 in order of arrival, all held until the longest is through."""
    ended, queue, now = {}, list(arrivals), 0.0
    while queue:
        now = max(now, queue[0].arrived)
        size = batch_that_pays(COSTS, "x", len([job for job in queue[:16] if job.arrived <= now]), steps=SHORT, most=16)
        batch, queue = queue[:size], queue[size:]
        now += max(job.steps for job in batch) * COSTS.step("x", size, 1)
        ended |= {job.id: now for job in batch}
    return ended


def p95(arrivals: list[Job], ended: dict[str, float], steps: int) -> float:
    waits = sorted(ended[job.id] - job.arrived for job in arrivals if job.steps == steps)
    return waits[int(0.95 * len(waits))]


def test_short_requests_take_less_than_half_as_long_and_long_ones_no_longer():
    for load in (0.3, 0.5, 0.7):
        ours = play(Scheduler(COSTS), mix(load), COSTS).ended
        theirs = fifo(mix(load))
        assert p95(mix(load), ours, SHORT) <= 0.5 * p95(mix(load), theirs, SHORT)
        assert p95(mix(load), ours, LONG) <= p95(mix(load), theirs, LONG)


def test_short_requests_keep_their_target_in_bursts_as_batches_are_made_a_little_smaller_for_them():
    target = Policy().stretch * SHORT * COSTS.step("x", 1, 1)
    for seed in range(5):
        jobs = mix(0.8, long=20, seed=seed)
        assert p95(jobs, play(Scheduler(COSTS), mix(0.8, long=20, seed=seed), COSTS).ended, SHORT) <= target
