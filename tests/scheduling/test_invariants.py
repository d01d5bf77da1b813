"""What the scheduler promises, over arrivals, cancellations and devices that hypothesis thinks up."""

import math
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scheduling.clock import play
from videogen.scheduling.costs import Affine
from videogen.scheduling.job import CLASSES, Job
from videogen.scheduling.policy import Policy
from videogen.scheduling.run import Hold, Run
from videogen.scheduling.scheduler import Scheduler

COSTS = Affine(0.04, 0.005, largest=4)
NEVER = dict.fromkeys(CLASSES, math.inf)


def jobs(
    tenants: str = "abc", keys: str = "xyz", most: int = 40, deadlines: bool = True
) -> st.SearchStrategy[list[Job]]:
    one = st.fixed_dictionaries(
        {
            "key": st.sampled_from(keys),
            "steps": st.integers(1, 12),
            "tenant": st.sampled_from(tenants),
            "priority": st.sampled_from(CLASSES),
            "arrived": st.floats(0, 3),
            "within": st.none() | st.floats(0.05, 10) if deadlines else st.none(),
        }
    )

    def build(drawn: list[dict]) -> list[Job]:
        made = []
        for number, fields in enumerate(drawn):
            within = fields.pop("within")
            deadline = None if within is None else fields["arrived"] + within
            made.append(Job(str(number), deadline=deadline, **fields))
        return made

    return st.lists(one, min_size=1, max_size=most).map(build)


class Watch:
    """Checks each answer of a scheduler against all the jobs that could have been given."""

    def __init__(self, scheduler: Scheduler, arrivals: list[Job]) -> None:
        self.scheduler, self.arrivals = scheduler, arrivals
        self.waiting: list[Job] = []

    def before(self, now: float) -> None:
        here = self.scheduler
        self.waiting = [job for job in self.arrivals if job.id in here._live.jobs and not job.busy]
        self.started = [job for job in self.waiting if job.steps_done]

    def on_time(self, job: Job, now: float) -> bool:
        return now + job.remaining * COSTS.step(job.key, 1, 1) <= job.target

    def left(self, run: Run) -> list[Job]:
        return [job for job in self.waiting if job not in run.jobs]


@given(jobs(), st.integers(1, 3), st.lists(st.tuples(st.floats(0, 5), st.integers(0, 39)), max_size=15))
@settings(max_examples=80, deadline=None)
def test_every_job_ends_and_none_that_was_cancelled_comes_back(arrivals, streams, cancellations):
    scheduler, gone = Scheduler(COSTS, streams=streams), {}

    def cancel(number: int, time: float):
        busy = number < len(arrivals) and arrivals[number].busy
        if scheduler.cancel(str(number)):
            gone.setdefault(str(number), (time, busy))

    calls = [(time, lambda number=number, time=time: cancel(number, time)) for time, number in cancellations]
    played = play(scheduler, arrivals, COSTS, at=calls)
    assert set(played.ended) | set(gone) == {job.id for job in arrivals}
    assert not set(played.ended) & set(gone)
    assert not played.idled
    for start, _, run in played.runs:
        for job in run.jobs:
            assert job.id not in gone or start <= gone[job.id][0], "a cancelled job was run again"
    assert len(scheduler) == scheduler.waiting == scheduler.running == 0
    assert scheduler.work() == 0
    assert all(len(shares._jobs) == 0 for shares in scheduler._live.shares)


@given(jobs(), st.integers(1, 3))
@settings(max_examples=80, deadline=None)
def test_a_run_is_of_one_key_and_no_more_than_its_batch_and_its_steps(arrivals, streams):
    played = play(Scheduler(COSTS, streams=streams), arrivals, COSTS)
    steps: dict[str, int] = defaultdict(int)
    for _, _, run in played.runs:
        assert len({job.key for job in run.jobs}) == 1
        assert len(set(run.jobs)) == len(run.jobs) <= 4
        for job in run.jobs:
            steps[job.id] += run.steps
    assert steps == {job.id: job.steps for job in arrivals}


@given(jobs(tenants="a"), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_no_deadline_is_inverted_inside_a_class_and_no_class_goes_before_a_more_urgent_one(arrivals, streams):
    policy = Policy(ageing_s=NEVER, paused_max=1000)
    scheduler = Scheduler(COSTS, policy, streams=streams)
    watch = Watch(scheduler, arrivals)

    def after(now: float, choice: Run | Hold | None) -> None:
        if not isinstance(choice, Run):
            return
        leader = choice.jobs[0]
        for other in watch.left(choice):
            assert CLASSES.index(leader.priority) <= CLASSES.index(other.priority)
            for job in choice.jobs:
                if other.priority == job.priority and (job is leader or other.key == job.key):
                    assert not (watch.on_time(other, now) and not other.late and other.target < job.target)

    play(scheduler, arrivals, COSTS, before=watch.before, after=after)


@given(jobs(), st.integers(1, 2))
@settings(max_examples=80, deadline=None)
def test_who_came_of_age_leads(arrivals, streams):
    policy = Policy(ageing_s=dict(zip(CLASSES, (0.2, 0.6, 1.0), strict=True)), paused_max=1000)
    scheduler = Scheduler(COSTS, policy, streams=streams)
    watch = Watch(scheduler, arrivals)

    def after(now: float, choice: Run | Hold | None) -> None:
        aged = [job.aged_at for job in watch.waiting if job.aged_at <= now]
        if aged:
            assert isinstance(choice, Run)
            assert choice.jobs[0].aged_at == min(aged)

    play(scheduler, arrivals, COSTS, before=watch.before, after=after)


@pytest.mark.parametrize("streams", [1, 2])
def test_the_least_urgent_job_ends_soon_after_it_came_of_age_whatever_else_comes(streams):
    costs = Affine(0.04, 0.005, largest=1)
    flood = [Job(f"f{n}", "x", 4, tenant="f", priority="interactive", arrived=n * 0.1) for n in range(200)]
    victim = Job("victim", "y", 10, tenant="v", priority="batch")
    policy = Policy(ageing_s={"interactive": math.inf, "standard": math.inf, "batch": 5.0})
    played = play(Scheduler(costs, policy, streams=streams), [*flood, victim], costs)
    step = costs.step("y", 1, streams)
    assert 5 < played.ended["victim"] <= 5 + step * (1 + 4 + 10)


@given(
    st.lists(st.tuples(st.sampled_from("xy"), st.integers(1, 9), st.floats(0.5, 4)), min_size=2, max_size=5),
    st.floats(0.05, 1),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_tenants_that_wait_all_the_time_get_their_shares(tenants, allowed, one_hurries):
    """`allowed` ahead for its targets, once in choosing the leader and once in filling, and a run in progress."""
    policy = Policy(ageing_s=NEVER, fairness_s=allowed, paused_max=1000)
    scheduler = Scheduler(COSTS, policy)
    arrivals, weights = [], {}
    for number, (key, steps, weight) in enumerate(tenants):
        tenant = f"t{number}"
        weights[tenant] = weight
        for n in range(300 // steps):
            deadline = 30.0 if one_hurries and number == 0 else None
            arrivals.append(Job(f"{tenant}-{n}", key, steps, tenant=tenant, weight=weight, deadline=deadline))
    played = play(scheduler, arrivals, COSTS, until=6.0)
    got = dict.fromkeys(weights, 0.0)
    bound = 2 * allowed + COSTS.step("x", 4, 1) / min(weights.values()) * 2
    waiting = {tenant: {job.id for job in arrivals if job.tenant == tenant} for tenant in weights}
    for start, end, run in played.runs:
        for job in run.jobs:
            got[job.tenant] += (end - start) / len(run.jobs) / weights[job.tenant]
            waiting[job.tenant].discard(job.id)
        if min(map(len, waiting.values())) < 5:
            break
        assert max(got.values()) - min(got.values()) <= bound


def test_a_tenant_that_rested_has_earned_nothing():
    policy = Policy(ageing_s=NEVER, fairness_s=0.1, stretch=1e6)
    arrivals = [Job(f"a{n}", "x", 4, tenant="a") for n in range(500)]
    arrivals += [Job(f"b{n}", "y", 4, tenant="b", arrived=5.0) for n in range(500)]
    played = play(Scheduler(COSTS, policy), arrivals, COSTS, until=10.0)
    got = {"a": 0.0, "b": 0.0}
    for start, end, run in played.runs:
        if start > 5.0:
            got[run.jobs[0].tenant] += end - start
    assert abs(got["a"] - got["b"]) <= 0.1 + 2 * COSTS.step("x", 4, 1)


@given(jobs(most=60), st.integers(1, 2), st.integers(0, 6))
@settings(max_examples=80, deadline=None)
def test_nobody_starts_while_too_many_are_paused(arrivals, streams, paused_max):
    scheduler = Scheduler(COSTS, Policy(paused_max=paused_max), streams=streams)
    watch = Watch(scheduler, arrivals)

    def after(now: float, choice: Run | Hold | None) -> None:
        paused = len([job for job in watch.started if not job.busy])
        if isinstance(choice, Run) and any(not job.steps_done for job in choice.jobs):
            assert paused <= paused_max
        assert len(watch.started) <= paused_max + 4 * streams

    play(scheduler, arrivals, COSTS, before=watch.before, after=after)


class Wishes:
    """Asks for holds of these lengths, one after the other."""

    def __init__(self, wishes: list[float]) -> None:
        self.wishes, self.asked = wishes, 0

    def arrived(self, key, steps, now):
        pass

    def ended(self, key, count, now):
        pass

    def seconds(self, key, present, wanted, slack, now, *, started=False):
        assert 0 < present < wanted
        self.asked += 1
        return self.wishes[self.asked % len(self.wishes)]


@given(jobs(), st.integers(1, 2), st.lists(st.floats(-0.1, 2), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_a_hold_is_bounded_breaks_no_target_and_only_holds_what_could_be_one_batch(arrivals, streams, wishes):
    policy = Policy(hold_max_s=0.3)
    scheduler = Scheduler(COSTS, policy, streams=streams, holding=Wishes(wishes))
    watch = Watch(scheduler, arrivals)
    since: dict[str, float] = {}

    def after(now: float, choice: Run | Hold | None) -> None:
        if isinstance(choice, Run):
            since.clear()
        if not isinstance(choice, Hold):
            return
        assert len({job.key for job in watch.waiting}) == 1
        assert len(watch.waiting) < 4
        for job in watch.waiting:
            assert choice.until - since.setdefault(job.id, now) <= 0.3 + 1e-9
            assert choice.until + job.remaining * scheduler.costs.step(job.key, 1, 1) <= job.target + 1e-9

    played = play(scheduler, arrivals, COSTS, before=watch.before, after=after)
    assert not played.idled
    assert set(played.ended) == {job.id for job in arrivals}


def test_a_hold_that_is_over_is_looked_at_again_but_not_without_end():
    for wish, looks in ((1e-12, 2), (0.1, 4)):
        wishes = Wishes([wish])
        played = play(Scheduler(COSTS, Policy(hold_max_s=0.3), holding=wishes), [Job("a", "x", 1, arrived=0.0)], COSTS)
        assert set(played.ended) == {"a"} and wishes.asked <= looks


def test_a_long_run_gives_way_at_the_next_boundary():
    long = [Job(f"l{n}", "x", 50, arrived=0.0) for n in range(4)]
    urgent = Job("urgent", "y", 4, priority="interactive", arrived=1.01)
    played = play(Scheduler(COSTS), [*long, urgent], COSTS)
    boundary = min(end for _, end, _ in played.runs if end >= 1.01)
    assert played.started["urgent"] == boundary
    assert played.ended["urgent"] == pytest.approx(boundary + 4 * COSTS.step("y", 1, 1))
    assert set(played.ended) == {"urgent", *(job.id for job in long)}
