"""The work that is told against what the device then needs."""

import pytest
from hypothesis import given, settings

from tests.scheduling.clock import play
from tests.scheduling.test_invariants import COSTS, jobs
from videogen.scheduling.costs import Affine
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Scheduler


@given(jobs(tenants="a"))
@settings(max_examples=60, deadline=None)
def test_work_is_what_the_device_then_needs(arrivals):
    scheduler = Scheduler(COSTS)
    for job in arrivals:
        scheduler.add(job, job.arrived)
    work = scheduler.work()
    assert work == pytest.approx(sum(job.steps * COSTS.step(job.key, 4, 1) / 4 for job in arrivals))
    played = play(scheduler, [], COSTS)
    assert max(played.ended.values()) >= work - 1e-9
    assert scheduler.work() == 0.0


def test_the_steps_that_are_done_count_no_more():
    scheduler = Scheduler(Affine(0.04, 0.005), Policy(fused_max_s=0))
    scheduler.add(Job("a", "x", 10), 0.0)
    before, now = scheduler.work(), 0.0
    for _ in range(9):
        run = scheduler.next(now)
        now += 0.045
        scheduler.stepped(run, 0.045, now)
    assert scheduler.work() == pytest.approx(before / 10)
