"""Single decisions: what leads, what joins, how large a batch and how many steps."""

import pytest

from videogen.scheduling.costs import Affine, Profiled, Table
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.run import Run
from videogen.scheduling.scheduler import Scheduler

GPU = Affine(0.04, 0.005)
TWO_CORES = Profiled({"x": Table({(1, 1): 0.010, (4, 1): 0.036, (8, 1): 0.072, (1, 2): 0.011, (4, 2): 0.044})})
"""Batching gains little, a second stream nearly all."""


def scheduler(costs=GPU, count: int = 0, **options) -> Scheduler:
    made = Scheduler(costs, **options)
    for number in range(count):
        made.add(Job(str(number), "x", 8), 0.0)
    return made


def test_a_device_on_which_batches_pay_fills_them():
    assert len(scheduler(count=40).next(0.0).jobs) == 16
    assert len(scheduler(count=3).next(0.0).jobs) == 3


def test_two_cores_run_two_streams_of_one():
    two = scheduler(TWO_CORES, count=6, streams=2)
    assert [len(two.next(0.0).jobs), len(two.next(0.0).jobs)] == [1, 1]
    assert two.next(0.0) is None


def test_a_device_whose_streams_share_it_gets_one_full_batch_rather_than_two_halves():
    assert len(scheduler(GPU, count=8, streams=2).next(0.0).jobs) == 8


def test_a_batch_is_no_larger_than_its_leaders_deadline_allows():
    made = scheduler(count=30)
    made.add(Job("tight", "x", 10, priority="interactive", deadline=0.62), 0.0)
    run = made.next(0.0)
    assert run.jobs[0].id == "tight"
    assert len(run.jobs) == 4  # 10 · (40 + 5·4) ms = 0.6 s


def test_a_late_arrival_joins_what_runs():
    made = scheduler(count=2)
    run = made.next(0.0)
    made.add(Job("late", "x", 8), 0.01)
    made.stepped(run, 0.05, 0.05)
    assert {job.id for job in made.next(0.05).jobs} == {"0", "1", "late"}


def test_what_cannot_be_joined_may_run_fused_but_not_for_long():
    short = Scheduler(GPU)
    short.add(Job("a", "x", 2), 0.0)
    run = short.next(0.0)
    assert run.steps == 2
    assert [job.id for job in short.stepped(run, 0.09, 0.09)] == ["a"]
    assert scheduler(count=1).next(0.0).steps == 1
    unequal = Scheduler(GPU)
    unequal.add(Job("a", "x", 2), 0.0)
    unequal.add(Job("b", "x", 1), 0.0)
    assert unequal.next(0.0).steps == 1


def test_a_full_batch_runs_fused_also_while_others_wait():
    made = Scheduler(TWO_CORES, streams=2)
    for number in range(10):
        made.add(Job(str(number), "x", 4), 0.0)
    assert made.next(0.0).steps == 4


def test_an_incompatible_request_does_not_block_the_queue():
    made = Scheduler(GPU)
    made.add(Job("slow", "y", 1000, deadline=None), 0.0)
    run = made.next(0.0)
    made.add(Job("quick", "x", 2), 0.01)
    made.stepped(run, 0.045, 0.045)
    assert made.next(0.045).jobs[0].id == "quick"


def test_priority_and_deadline_can_change_while_it_waits_and_while_it_runs():
    made = Scheduler(Affine(0.04, 0.005, largest=1))
    for name in "abc":
        made.add(Job(name, "x", 10), 0.0)
    made.change("c", priority="interactive")
    run = made.next(0.0)
    assert run.jobs[0].id == "c"
    made.change("c", priority="batch")
    made.change("b", deadline=1.0)
    made.change("nobody", deadline=1.0)
    made.stepped(run, 0.045, 0.045)
    assert made.next(0.045).jobs[0].id == "b"


def test_a_deadline_that_is_taken_away_counts_no_more():
    made = Scheduler(Affine(0.04, 0.005, largest=1))
    for name in "ab":
        made.add(Job(name, "x", 10), 0.0)
    made.change("b", deadline=1.0)
    made.change("b", deadline=None)
    assert made.next(0.0).jobs[0].id == "a"


def test_late_jobs_wait_for_those_that_can_still_make_it_unless_their_tenant_is_owed_more():
    one = Affine(0.04, 0.005, largest=1)
    made = Scheduler(one, Policy(fairness_s=0.1))
    made.add(Job("lost", "x", 10, tenant="a", deadline=0.1), 0.0)
    for number in range(9):
        made.add(Job(str(number), "x", 1, tenant="b", deadline=9.0), 0.0)
    led, now = [], 0.0
    while not led or led[-1] != "lost":
        run = made.next(now)
        led.append(run.jobs[0].id)
        now += 0.045
        made.stepped(run, 0.045, now)
    assert 2 <= len(led) - 1 <= 4


def test_of_late_jobs_those_without_a_deadline_join_who_can_keep_one_and_the_others_do_not():
    made = scheduler()
    for name, deadline in (("lost", 0.1), ("lost too", 0.2), ("slow", None)):
        made.add(Job(name, "x", 8, deadline=deadline), 0.0)
    now = 5.0
    made.add(Job("leads", "x", 8, arrived=now, deadline=now + 9), now)
    assert [job.id for job in made.next(now).jobs] == ["leads", "slow"]


def test_a_failed_run_takes_its_jobs_along():
    made = scheduler(count=20)
    run = made.next(0.0)
    made.cancel(run.jobs[0].id)
    assert len(made.failed(run)) == 15
    assert (made.waiting, made.running) == (4, 0)
    assert isinstance(made.next(0.0), Run)


@pytest.mark.parametrize("bad", [{"steps": 0}, {"steps": 3, "steps_done": 3}, {"steps": 1, "weight": 0.0}])
def test_what_cannot_be_scheduled_is_refused(bad):
    with pytest.raises(ValueError, match="'a'"):
        Scheduler(GPU).add(Job("a", "x", **bad), 0.0)


def test_an_id_is_scheduled_once():
    with pytest.raises(ValueError, match="'0'"):
        scheduler(count=1).add(Job("0", "x", 1), 0.0)
