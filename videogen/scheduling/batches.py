"""Which batch pays: how many jobs a run takes, how many steps, and how long that is."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from videogen.scheduling.costs import NEAR, Corrected, batch_that_pays
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy


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


class Batches:
    """For a device of so many streams, by the corrected costs."""

    def __init__(self, costs: Corrected, policy: Policy, streams: int) -> None:
        self.costs, self.policy, self.streams = costs, policy, streams
        self._pays: dict[Hashable, Paying] = {}

    def most(self, key: Hashable) -> int:
        """The largest batch."""
        measured = self.costs.batch_max(key)
        return min(measured, self.policy.batch_max or measured)

    def full(self, key: Hashable) -> int:
        """The batch that pays where there are jobs enough."""
        return self.paying(key).full

    def least(self, job: Job, waiting: int) -> int:
        """The smallest batch that is run to keep the target of a job, of whose key so many wait."""
        paying = self.paying(job.key)
        if waiting >= self.policy.backlog * paying.full:
            return paying.full
        return paying.least_started if job.steps_done else paying.least

    def time(self, key: Hashable, steps: int, batch: int) -> float:
        """Seconds of a whole generation, nothing beside it on the device."""
        return steps * self.costs.step(key, batch, 1) + self.costs.rest(key, batch, 1)

    def work(self, key: Hashable, steps: int) -> float:
        """The device's seconds of a job with so many steps, in batches that pay."""
        paying = self.paying(key)
        rest = self.costs.rest(key, paying.full, self.streams)
        return steps * paying.each + rest / (paying.full * self.streams)

    def largest_within(self, key: Hashable, steps: int, seconds: float) -> int:
        """The largest batch whose generations take no longer, 1 if none does."""
        size = self.most(key)
        while size > 1 and self.time(key, steps, size) > seconds:
            size -= 1
        return size

    def size(self, leader: Job, waiting: int, busy: int, now: float) -> int:
        """How many of those that wait the next run takes, while `busy` streams run: what pays, but no more than the
        leader's target allows."""
        key, size = leader.key, self.full(leader.key)
        if waiting < size * (self.streams - busy):
            size = batch_that_pays(self.costs, key, waiting, busy=busy, streams=self.streams, most=self.most(key))
        if leader.late:
            return size
        least = 1 if leader.deadline is not None else self.least(leader, waiting)
        time = leader.target - now - self.costs.rest(key, 1, 1)
        while size > least and leader.remaining * self.costs.step(key, size, busy + 1) > time:
            size -= 1
        return size

    def steps(self, jobs: Sequence[Job], busy: int, *, alone: bool) -> int:
        """All that the jobs have left, where nothing could join them and it doesn't take long; else 1."""
        left, key = jobs[0].remaining, jobs[0].key
        long = left * self.costs.step(key, len(jobs), busy + 1) > self.policy.fused_max_s
        return 1 if not alone or long or any(job.remaining != left for job in jobs) else left

    def paying(self, key: Hashable) -> Paying:
        """Worked out again when the correction has moved by `NEAR`; else as it was found."""
        factor, found = self.costs.factor(key, None, self.streams), self._pays.get(key)
        if found is None or not 1 / NEAR < factor / found.factor < NEAR:
            found = self._pays[key] = self._work_out(key, factor)
        return found

    def _work_out(self, key: Hashable, factor: float) -> Paying:
        most, streams, policy = self.most(key), self.streams, self.policy
        full = batch_that_pays(self.costs, key, most * streams, streams=streams, most=most)
        each = [self.costs.step(key, size, streams) / (size * streams) for size in range(1, full + 1)]

        def least(waste: float) -> int:
            return next(size for size in range(full, 0, -1) if size == 1 or each[size - 2] > waste * each[-1])

        return Paying(full, least(policy.waste), least(policy.waste_started), each[-1], factor)
