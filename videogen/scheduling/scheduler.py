"""Which generations take the next denoising step: a decision at every step boundary, nothing else.

Whoever has a free stream asks `next`, runs what it says and reports it with `stepped`. No clock, no I/O, no threads.
"""

import itertools
import math
from bisect import bisect_left, insort
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial

from videogen.scheduling.admission import Ahead, Backlog, Place
from videogen.scheduling.costs import NEAR, Corrected, Costs, batch_that_pays
from videogen.scheduling.fairness import Shares
from videogen.scheduling.job import CLASSES, Job, Priority
from videogen.scheduling.line import Line
from videogen.scheduling.policy import Holding, Policy

RANKS = range(2 * len(CLASSES))
LATE_MOVES = 4
"""How many jobs one decision finds late at most; the next ones are found by the decisions after it."""


@dataclass(frozen=True, slots=True)
class Run:
    """One denoiser call for these jobs, or, with `steps` > 1, all the steps that they have left in one."""

    jobs: tuple[Job, ...]
    steps: int


@dataclass(frozen=True, slots=True)
class Hold:
    """Nothing to run before this time, unless a job is added: then ask again."""

    until: float


@dataclass(frozen=True, slots=True)
class Paying:
    """What pays for a key, with jobs enough: in the batch `full` a step takes the device `each` seconds a job.

    The smallest batches that are run to keep the target of a job that has not started, and of one that has. `factor`
    is the correction of the costs under which all that is so.
    """

    full: int
    least: int
    least_started: int
    each: float
    factor: float


class Scheduler:
    """Groups live generations by batch key and picks, at each step boundary, who steps.

    Who leads: the job that came of age first, if any did; else the most urgent class, in it the earliest target whose
    tenant is no further ahead than `Policy.fairness_s`; jobs that can't meet their target go after those that can,
    unless their tenant is owed more than that. The rest of the batch is filled from the leader's key in the same
    order, as far as T(B) pays and the leader's target allows: a batch is made smaller for it while it still pays, and
    for a deadline in any case. What is late for its deadline joins no run whose leader can still keep one. `costs` are
    corrected by what `stepped` tells.
    """

    def __init__(
        self, costs: Costs, policy: Policy | None = None, *, streams: int = 1, holding: Holding | None = None
    ) -> None:
        self.costs = costs if isinstance(costs, Corrected) else Corrected(costs)
        self.policy, self.streams = policy or Policy(), streams
        self._holding = holding
        self._orders = itertools.count()
        self._jobs: dict[str, Job] = {}
        self._shares = [Shares() for _ in CLASSES]
        self._lines = [Line(self._shares[rank // 2]) for rank in RANKS]
        self._by_key: dict[Hashable, dict[int, Line]] = {}
        self._ages: list[tuple[float, int, Job]] = []
        self._backlog = Backlog()
        self._paused: dict[str, Job] = {}
        self._runs: dict[Run, float] = {}
        self._holds: dict[Hashable, tuple[float, int, float]] = {}
        self._pays: dict[Hashable, Paying] = {}

    # What comes and goes

    def add(self, job: Job, now: float) -> None:
        """Raises ValueError for an id that is here already, or a job with no steps left or no weight."""
        if job.id in self._jobs:
            raise ValueError(f"id: {job.id!r} is scheduled already")
        if job.remaining < 1 or not job.weight > 0:
            raise ValueError(
                f"job {job.id!r}: got {job.remaining} steps left, weight {job.weight}; allowed: more than 0"
            )
        job.order = next(self._orders)
        self._aim(job)
        job.set_late(self._is_late(job, now))
        self._jobs[job.id] = job
        self._enter(job)
        self._wait(job)
        if self._holding is not None:
            self._holding.arrived(job.key, job.steps, now)

    def cancel(self, job_id: str) -> Job | None:
        """Takes the job away: at once if it waits, at its step boundary if it is in a run. None if it isn't here."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        job.cancelled = True
        if not job.busy:
            self._take(job)
            self._leave(job)
        return job

    def change(self, job_id: str, *, priority: Priority | None = None, deadline: float | None = None) -> None:
        """What the job is from the next boundary on. One that isn't here is no error."""
        job = self._jobs.get(job_id)
        if job is None:
            return
        if not job.busy:
            self._take(job)
        self._leave(job)
        job.priority = priority or job.priority
        job.deadline = job.deadline if deadline is None else deadline
        job.set_late(False)
        self._aim(job)
        self._jobs[job.id] = job
        self._enter(job)
        if not job.busy:
            self._wait(job)

    def next(self, now: float) -> Run | Hold | None:
        """What a free stream should run now. The jobs of a run are busy until `stepped` or `failed`; None: nothing."""
        if len(self._runs) >= self.streams:
            return None
        leader = self._leader(now)
        if leader is None:
            return None
        key, waiting = leader.key, self._waiting_of(leader.key)
        size = self._batch(leader, waiting, now)
        until = self._hold_until(leader, waiting, now)
        if until > now:
            return Hold(until)
        self._holds.pop(key, None)
        jobs = self._fill(leader, size, now)
        full = len(jobs) >= self._full_batch(key)
        run = Run(tuple(jobs), self._steps(jobs, alone=full or not self._waiting_of(key)))
        self._runs[run] = self._paying(key).each
        return run

    def stepped(self, run: Run, seconds: float, now: float) -> list[Job]:
        """The run ended after so many seconds; gives the jobs that have all their steps now. They have left."""
        jobs, streams = run.jobs, len(self._runs)
        charged = self._runs.pop(run)
        key = jobs[0].key
        self.costs.observe(key, len(jobs), streams, seconds / run.steps)
        done = []
        for job in jobs:
            job.busy = False
            job.steps_done += run.steps
            self._shares_of(job).charge(job.tenant, seconds / len(jobs) - charged, job.weight)
            if job.cancelled or job.remaining <= 0:
                self._leave(job)
                if not job.cancelled:
                    done.append(job)
            else:
                self._wait(job)
        if done and self._holding is not None:
            self._holding.ended(key, len(done), now)
        return done

    def failed(self, run: Run) -> list[Job]:
        """The run came to nothing: its jobs leave. Gives those that nobody cancelled. Nothing is learned from it."""
        self._runs.pop(run)
        for job in run.jobs:
            job.busy = False
            self._leave(job)
        return [job for job in run.jobs if not job.cancelled]

    # What stands where

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def running(self) -> int:
        """Jobs in runs."""
        return sum(len(run.jobs) for run in self._runs)

    @property
    def waiting(self) -> int:
        """Jobs in no run, also those that started."""
        return len(self._jobs) - self.running

    def position(self, job_id: str) -> int | None:
        """How many jobs go before it by class and target; 0 for one in a run, None for one that isn't here."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        return 0 if job.busy else self._backlog.before(_place(job))

    def eta(self, job_id: str, now: float) -> float | None:
        """Seconds until it will have ended, as far as one can tell now; None for one that isn't here."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        return self._foretold(job, self._count_of(job.key))

    def completion(self, job: Job, now: float) -> float:
        """When `job`, which is not here, would end if it were added now: for admission.

        Simulated with up to 300 jobs ahead of 1 to 5 keys, some of other classes or with deadlines: half of what is
        foretold is within 6 % of what then comes, nine in ten between 0.5 and 1.7 times it. Later arrivals delay it.
        """
        job.order = next(self._orders)
        self._aim(job)
        job.set_late(self._is_late(job, now))
        return now + self._foretold(job, self._count_of(job.key) + 1)

    def work(self, now: float) -> float:
        """Seconds that the device needs for all that is here."""
        return self._backlog.work(self._started(), self._cost)

    # Inside

    def _shares_of(self, job: Job) -> Shares:
        return self._shares[job.rank // 2]

    def _aim(self, job: Job) -> None:
        """Sets what the job is sorted by."""
        alone = self._time(job.key, job.steps, 1)
        job.target = job.deadline if job.deadline is not None else job.arrived + self.policy.stretch * alone
        job.aged_at = job.arrived + self.policy.ageing_s[job.priority]
        job.entry = (job.target, job.order, job)
        job.batch_most = None if job.deadline is None else self._allowed_batch(job, job.deadline - job.arrived)

    def _time(self, key: Hashable, steps: int, batch: int) -> float:
        return steps * self.costs.step(key, batch, 1) + self.costs.rest(key, batch, 1)

    def _allowed_batch(self, job: Job, seconds: float) -> int:
        size = self._most(job.key)
        while size > 1 and self._time(job.key, job.steps, size) > seconds:
            size -= 1
        return size

    def _is_late(self, job: Job, now: float) -> bool:
        """In the batch that it would share now, or a smaller one that pays; not by what it could do alone, or all would
        start and none end."""
        size = min(max(1, self._count_of(job.key)), self._least(job), job.batch_most or self._most(job.key))
        return now + self._time(job.key, job.remaining, size) > job.target

    def _enter(self, job: Job) -> None:
        self._shares_of(job).join(job.tenant)
        insort(self._ages, (job.aged_at, job.order, job))
        self._backlog.add(job)

    def _leave(self, job: Job) -> None:
        del self._jobs[job.id]
        self._shares_of(job).leave(job.tenant)
        del self._ages[bisect_left(self._ages, (job.aged_at, job.order))]
        self._backlog.remove(job)

    def _wait(self, job: Job) -> None:
        rank, lines = job.rank, self._by_key.setdefault(job.key, {})
        if rank not in lines:
            lines[rank] = Line(self._shares[rank // 2])
        self._lines[rank].add(job)
        lines[rank].add(job)
        if job.steps_done:
            self._paused[job.id] = job

    def _take(self, job: Job) -> None:
        rank, lines = job.rank, self._by_key[job.key]
        self._lines[rank].remove(job)
        lines[rank].remove(job)
        if not lines[rank].jobs:
            del lines[rank]
            if not lines:
                del self._by_key[job.key]
        self._paused.pop(job.id, None)

    def _set_late(self, job: Job) -> None:
        self._take(job)
        self._backlog.remove(job)
        job.set_late(True)
        self._backlog.add(job)
        self._wait(job)

    def _waiting_of(self, key: Hashable) -> int:
        return sum(len(line.jobs) for line in self._by_key[key].values()) if key in self._by_key else 0

    def _leader(self, now: float) -> Job | None:
        if len(self._paused) > self.policy.paused_max:
            return min(self._paused.values(), key=partial(_turn, now))
        for aged_at, _, job in self._ages:
            if aged_at > now:
                break
            if not job.busy:
                return job
        moves = LATE_MOVES
        for number, shares in enumerate(self._shares):
            line, late = self._lines[2 * number], self._lines[2 * number + 1]
            while line.jobs:
                least = line.floor()
                if late.floor() + self.policy.fairness_s < least:
                    break
                job = line.first(least + self.policy.fairness_s)
                if job is None or not moves or not self._is_late(job, now):
                    shares.raise_floor(least)
                    return job
                self._set_late(job)
                moves -= 1
            if late.jobs:
                shares.raise_floor(late.floor())
                return late.first(late.floor() + self.policy.fairness_s)
        return None

    def _allowed(self, rank: int) -> float:
        """What a tenant may have got that joins a run: no more than those who wait, and what fairness allows."""
        on_time, late = self._lines[rank - rank % 2].floor(), self._lines[rank - rank % 2 + 1].floor()
        if rank % 2 == 0:
            late += self.policy.fairness_s
        return min(on_time, late) + self.policy.fairness_s

    def _paused_by_turn(self, now: float, key: Hashable) -> list[Job]:
        """What started, of a key; the one that goes first is last."""
        of = [job for job in self._paused.values() if job.key == key]
        of.sort(key=partial(_turn, now), reverse=True)
        return of

    def _most(self, key: Hashable) -> int:
        return min(self.costs.batch_max(key), self.policy.batch_max or self.costs.batch_max(key))

    def _batch(self, leader: Job, waiting: int, now: float) -> int:
        """How many jobs this run takes: what pays, but no more than the leader's target allows."""
        key, busy, size = leader.key, len(self._runs), self._full_batch(leader.key)
        if waiting < size * (self.streams - busy):
            size = batch_that_pays(self.costs, key, waiting, busy=busy, streams=self.streams, most=self._most(key))
        if leader.late:
            return size
        least = 1 if leader.deadline is not None else self._least(leader)
        time = leader.target - now - self.costs.rest(key, 1, 1)
        while size > least and leader.remaining * self.costs.step(key, size, busy + 1) > time:
            size -= 1
        return size

    def _least(self, job: Job) -> int:
        """The smallest batch that is run to keep the target of a job."""
        paying = self._paying(job.key)
        if self._waiting_of(job.key) >= self.policy.backlog * paying.full:
            return paying.full
        return paying.least_started if job.steps_done else paying.least

    def _full_batch(self, key: Hashable) -> int:
        return self._paying(key).full

    def _paying(self, key: Hashable) -> Paying:
        factor, found = self.costs.factor(key, None, self.streams), self._pays.get(key)
        if found is not None and 1 / NEAR < factor / found.factor < NEAR:
            return found
        most, streams, policy = self._most(key), self.streams, self.policy
        full = batch_that_pays(self.costs, key, most * streams, streams=streams, most=most)
        each = [self.costs.step(key, size, streams) / (size * streams) for size in range(1, full + 1)]

        def least(waste: float) -> int:
            return next(size for size in range(full, 0, -1) if size == 1 or each[size - 2] > waste * each[-1])

        found = Paying(full, least(policy.waste), least(policy.waste_started), each[-1], factor)
        self._pays[key] = found
        return found

    def _hold_until(self, leader: Job, waiting: int, now: float) -> float:
        """Until when the leader's batch is held open; `now` or before it is not to hold."""
        key = leader.key
        full = self._full_batch(key)
        idle = waiting == len(self._jobs) - self.running
        if self._holding is None or waiting >= full or not idle:
            return now
        jobs = [job for line in self._by_key[key].values() for _, _, job in line.jobs]
        slack = min(self._slack(job, full, now) for job in jobs)
        bound, present, until = self._holds.get(key, (now + self.policy.hold_max_s, 0, 0.0))
        if present != waiting:
            most, started = min(slack, bound - now), bool(self._paused)
            until = now + self._holding.seconds(key, waiting, full, most, now, started=started)
            self._holds[key] = bound, waiting, until
        return min(until, bound, now + slack)

    def _slack(self, job: Job, full: int, now: float) -> float:
        """How long it can wait and end by its deadline, alone and in a full batch; without one, by its target alone.

        What a batch takes is corrected for each size by itself: the larger may seem to take less.
        """
        sizes = (1,) if job.deadline is None else (1, full)
        return job.target - now - max(self._time(job.key, job.remaining, size) for size in sizes)

    def _fill(self, leader: Job, size: int, now: float) -> list[Job]:
        """The leader and who joins it, busy from now on."""
        key, jobs, lines = leader.key, [leader], self._by_key[leader.key]
        cost = self._paying(key).each
        no_late = leader.deadline is not None and not leader.late
        rank, paused, moves = 0, None, LATE_MOVES
        together = min(self._count_of(key), self._full_batch(key))
        step, rest = self.costs.step(key, together, 1), self.costs.rest(key, together, 1)
        self._start(leader, cost)
        while len(jobs) < size and rank < len(RANKS):
            if len(self._paused) > self.policy.paused_max:
                paused = self._paused_by_turn(now, key) if paused is None else paused
                if not paused:
                    break
                job = paused.pop()
            else:
                job = lines[rank].first(self._allowed(rank)) if rank in lines else None
                if job is None or (no_late and job.late and job.deadline is not None):
                    rank += 1
                    continue
                due = job.target - job.remaining * step - rest
                if moves and not job.late and now > due and self._is_late(job, now):
                    self._set_late(job)
                    moves -= 1
                    continue
            self._start(job, cost)
            jobs.append(job)
        return jobs

    def _start(self, job: Job, cost: float) -> None:
        self._take(job)
        job.busy = True
        self._shares_of(job).charge(job.tenant, cost, job.weight)

    def _steps(self, jobs: list[Job], *, alone: bool) -> int:
        """All that the jobs have left, where nothing could join them and it doesn't take long; else 1."""
        left, key = jobs[0].remaining, jobs[0].key
        long = left * self.costs.step(key, len(jobs), len(self._runs) + 1) > self.policy.fused_max_s
        return 1 if not alone or long or any(job.remaining != left for job in jobs) else left

    def _count_of(self, key: Hashable) -> int:
        return self._waiting_of(key) + sum(len(run.jobs) for run in self._runs if run.jobs[0].key == key)

    def _started(self) -> list[Job]:
        return [*self._paused.values(), *(job for run in self._runs for job in run.jobs)]

    def _cost(self, key: Hashable, steps: int) -> float:
        """The device's seconds of a job with so many steps, in batches that pay."""
        paying = self._paying(key)
        rest = self.costs.rest(key, paying.full, self.streams)
        return steps * paying.each + rest / (paying.full * self.streams)

    def _foretold(self, job: Job, together: int) -> float:
        """Seconds until its end, of its key `together` with it: whole batches of its own key before it, runs of others
        before it or before who takes it along, and its own steps.
        """
        size = min(together, self._full_batch(job.key))
        streams = min(self.streams, math.ceil(together / size))
        step, rest = (cost(job.key, size, streams) for cost in (self.costs.step, self.costs.rest))
        own = job.remaining * step + rest
        if job.busy:
            return own
        place, started = _place(job), self._started()
        mates = self._backlog.ahead(place, started).get(job.key, Ahead())
        wait = mates.jobs // (size * streams) * (mates.steps * step / mates.jobs + rest) if mates.jobs else 0.0
        beside = self._backlog.last_before(place, job.key, mates.jobs % (size * streams))
        taken_along = next((mate for mate in beside if mate.remaining >= job.remaining), job)
        for key, others in self._backlog.ahead(_place(taken_along), started).items():
            if key != job.key and others.jobs:
                wait += self._runs_of(key, others)
        return wait + own

    def _runs_of(self, key: Hashable, ahead: Ahead) -> float:
        """Seconds of the runs that these jobs lead, which others of their key fill."""
        size = min(ahead.all, self._full_batch(key))
        streams = min(self.streams, math.ceil(ahead.all / size))
        each = ahead.steps / ahead.jobs * self.costs.step(key, size, streams) + self.costs.rest(key, size, streams)
        return math.ceil(ahead.jobs / (size * streams)) * each


def _place(job: Job) -> Place:
    return job.rank, job.target, job.order


def _turn(now: float, job: Job) -> tuple[float, int, float, int]:
    """Of started jobs, the one with the least goes first."""
    return min(now, job.aged_at), job.rank, job.target, job.order
