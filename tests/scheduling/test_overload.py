"""More requests than the device can make: those that end are to end in time."""

import random

import pytest

from tests.scheduling.clock import play
from videogen.scheduling.costs import Affine
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.scheduler import Scheduler

COSTS, STEPS, SECONDS = Affine(0.04, 0.005), 4, 10.0
WITHIN = 3 * STEPS * COSTS.step("x", 1, 1)
CAPACITY = 16 / (STEPS * COSTS.step("x", 16, 1))


def overload(deadline: float | None) -> list[Job]:
    chance, now, made = random.Random(3), 0.0, []
    while (now := now + chance.expovariate(1.2 * CAPACITY)) < SECONDS:
        due = None if deadline is None else now + deadline
        made.append(Job(str(len(made)), "x", STEPS, arrived=now, deadline=due))
    return made


@pytest.mark.parametrize(("deadline", "share"), [(None, 0.7), (WITHIN, 0.8)])
def test_of_too_many_those_that_can_still_make_it_do_instead_of_all_starting_and_none_ending_in_time(deadline, share):
    """What passed its deadline is taken away."""
    jobs = overload(deadline)
    scheduler = Scheduler(COSTS, Policy(batch_max=16))
    gone = [] if deadline is None else [(job.deadline, lambda job=job: scheduler.cancel(job.id)) for job in jobs]
    ended = play(scheduler, jobs, COSTS, at=gone).ended
    good = sum(ended.get(job.id, SECONDS * 10) <= job.arrived + WITHIN for job in jobs)
    assert good >= share * CAPACITY * SECONDS


def test_a_backlog_is_worked_off_in_full_batches():
    scheduler = Scheduler(COSTS, Policy(batch_max=16))
    for number in range(80):
        scheduler.add(Job(str(number), "x", STEPS, arrived=0.0), 0.0)
    played = play(scheduler, [], COSTS)
    assert max(played.ended.values()) <= 1.05 * 80 / CAPACITY
