"""Which generations take the next denoising step: a decision at every step boundary, nothing else.

Whoever has a free stream asks `next`, runs what it says and reports it with `stepped`. No clock, no I/O, no threads.
"""

from collections.abc import Hashable

from videogen.scheduling.batches import Batches
from videogen.scheduling.choosing import Choice
from videogen.scheduling.costs import Corrected, Costs
from videogen.scheduling.holds import Holds
from videogen.scheduling.job import Job, Priority
from videogen.scheduling.live import LiveJobs
from videogen.scheduling.policy import Holding, Policy
from videogen.scheduling.run import Hold, Run


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
        self._live, self._batches = LiveJobs(), Batches(self.costs, self.policy, streams)
        self._choice = Choice(self._live, self._batches)
        self._holds = Holds(holding, self._live, self._batches)

    # What comes and goes

    def add(self, job: Job, now: float) -> None:
        """Raises ValueError for an id that is here already, or a job with no steps left or no weight."""
        if job.id in self._live.jobs:
            raise ValueError(f"id: {job.id!r} is scheduled already")
        if job.remaining < 1 or not job.weight > 0:
            raise ValueError(
                f"job {job.id!r}: got {job.remaining} steps left, weight {job.weight}; allowed: more than 0"
            )
        self._prepare(job, now)
        self._live.enter(job)
        self._live.wait(job)
        self._holds.arrived(job, now)

    def cancel(self, job_id: str) -> Job | None:
        """Takes the job away: at once if it waits, at its step boundary if it is in a run. None if it isn't here."""
        job = self._live.jobs.get(job_id)
        if job is None:
            return None
        job.cancelled = True
        if not job.busy:
            self._live.take(job)
            self._live.leave(job)
        return job

    def forget(self, key: Hashable) -> None:
        """No job of the key is here, and it is no longer served."""
        self.costs.forget(key)
        self._batches.forget(key)

    def change(self, job_id: str, *, priority: Priority | None = None, deadline: float | None = None) -> None:
        """What the job is from the next boundary on: of the same class without a `priority`, without a deadline if none
        is given. One that isn't here is no error."""
        live, job = self._live, self._live.jobs.get(job_id)
        if job is None:
            return
        if not job.busy:
            live.take(job)
        live.leave(job)
        job.priority = priority or job.priority
        job.deadline = deadline
        job.set_late(False)
        self._aim(job)
        live.enter(job)
        if not job.busy:
            live.wait(job)

    def next(self, now: float) -> Run | Hold | None:
        """What a free stream should run now. The jobs of a run are busy until `stepped` or `failed`; None: nothing."""
        live, batches, busy = self._live, self._batches, len(self._live.runs)
        leader = self._choice.leader(now) if busy < self.streams else None
        if leader is None:
            return None
        key, waiting = leader.key, live.waiting_of(leader.key)
        size = batches.size(leader, waiting, busy, now)
        until = self._holds.until(leader, waiting, now)
        if until > now:
            return Hold(until)
        self._holds.over(key)
        jobs = self._choice.fill(leader, waiting, size, now)
        alone = len(jobs) >= batches.full(leader) or not live.waiting_of(key)
        run = Run(tuple(jobs), batches.steps(jobs, busy, alone=alone))
        live.runs[run] = batches.each(key, leader.steps)
        return run

    def stepped(self, run: Run, seconds: float, now: float) -> list[Job]:
        """The run ended after so many seconds; gives the jobs that have all their steps now. They have left."""
        live, jobs, streams = self._live, run.jobs, len(self._live.runs)
        charged = live.runs.pop(run)
        self.costs.observe(jobs[0].key, len(jobs), streams, seconds / run.steps)
        done = []
        for job in jobs:
            job.busy = False
            job.steps_done += run.steps
            live.shares_of(job).charge(job.tenant, seconds / len(jobs) - charged, job.weight)
            if job.cancelled or job.remaining <= 0:
                live.leave(job)
                if not job.cancelled:
                    done.append(job)
            else:
                live.wait(job)
        self._holds.ended(jobs[0].key, len(done), now)
        return done

    def failed(self, run: Run) -> list[Job]:
        """The run came to nothing: its jobs leave. Gives those that nobody cancelled. Nothing is learned from it."""
        self._live.runs.pop(run)
        for job in run.jobs:
            job.busy = False
            self._live.leave(job)
        return [job for job in run.jobs if not job.cancelled]

    # What stands where

    def __len__(self) -> int:
        return len(self._live.jobs)

    @property
    def running(self) -> int:
        """Jobs in runs."""
        return self._live.running

    @property
    def waiting(self) -> int:
        """Jobs in no run, also those that started."""
        return self._live.waiting

    def work(self) -> float:
        """Seconds that the device needs for all that is here."""
        return self._live.backlog.work(self._live.started(), self._batches.work, self._batches.each)

    def _prepare(self, job: Job, now: float) -> None:
        self._live.number(job)
        self._aim(job)
        job.set_late(self._choice.is_late(job, now))

    def _aim(self, job: Job) -> None:
        """Sets what the job is sorted by."""
        alone, policy = self._batches.time(job.key, job.steps, 1), self.policy
        job.target = job.deadline if job.deadline is not None else job.arrived + policy.stretch * alone
        job.aged_at = job.arrived + policy.ageing_s[job.priority]
        job.entry = (job.target, job.order, job)
        job.batch_most = None
        if job.deadline is not None:
            job.batch_most = self._batches.largest_within(job.key, job.steps, job.deadline - job.arrived)
