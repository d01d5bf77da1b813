"""Which batch pays: how many jobs a run takes, how many steps, and how long that is."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from videogen.scheduling.costs import Corrected, batch_that_pays
from videogen.scheduling.job import Job
from videogen.scheduling.policy import Policy


@dataclass(frozen=True, slots=True)
class Paying:
    """The batch that pays for jobs of a key and a number of steps, where there are enough of them; and the smallest
    that are run to keep the target of one that has not started, and of one that has."""

    full: int
    least: int
    least_started: int


class Batches:
    """For a device of so many streams.

    Which batch pays is told by the costs as they were measured, over all that a job needs: what corrects them is told
    of steps and of the rest apart, and moves between the two where one call does both. Times are by corrected costs.
    """

    def __init__(self, costs: Corrected, policy: Policy, streams: int) -> None:
        self.costs, self.policy, self.streams = costs, policy, streams
        self._pays: dict[Hashable, dict[int, Paying]] = {}

    def most(self, key: Hashable) -> int:
        """The largest batch."""
        measured = self.costs.batch_max(key)
        return min(measured, self.policy.batch_max or measured)

    def full(self, job: Job) -> int:
        """The batch that pays where there are enough such jobs."""
        return self.paying(job.key, job.steps).full

    def each(self, key: Hashable, steps: int) -> float:
        """Seconds that a step takes the device for one of many jobs of so many steps."""
        full = self.paying(key, steps).full
        return self.costs.step(key, full, self.streams) / (full * self.streams)

    def least(self, job: Job, waiting: int) -> int:
        """The smallest batch that is run to keep the target of a job, of whose key so many wait."""
        paying = self.paying(job.key, job.steps)
        if waiting >= self.policy.backlog * paying.full:
            return paying.full
        return paying.least_started if job.steps_done else paying.least

    def time(self, key: Hashable, steps: int, batch: int) -> float:
        """Seconds of a whole generation, nothing beside it on the device."""
        return steps * self.costs.step(key, batch, 1) + self.costs.rest(key, batch, 1)

    def work(self, key: Hashable, steps: int) -> float:
        """The device's seconds of a job with so many steps, in batches that pay."""
        full = self.paying(key, steps).full
        return steps * self.each(key, steps) + self.costs.rest(key, full, self.streams) / (full * self.streams)

    def largest_within(self, key: Hashable, steps: int, seconds: float) -> int:
        """The largest batch whose generations take no longer, 1 if none does."""
        size = self.most(key)
        while size > 1 and self.time(key, steps, size) > seconds:
            size -= 1
        return size

    def size(self, leader: Job, waiting: int, busy: int, now: float) -> int:
        """How many of those that wait the next run takes, while `busy` streams run: what pays, but no more than the
        leader's target allows."""
        key, steps, size = leader.key, leader.steps, self.full(leader)
        if waiting < size * (self.streams - busy):
            size = self._pays_for(key, steps, waiting, busy)
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

    def paying(self, key: Hashable, steps: int) -> Paying:
        of_key = self._pays.setdefault(key, {})
        if (found := of_key.get(steps)) is None:
            found = of_key[steps] = self._work_out(key, steps)
        return found

    def forget(self, key: Hashable) -> None:
        """The key is no longer served: what is served under it again is measured anew."""
        self._pays.pop(key, None)

    def _pays_for(self, key: Hashable, steps: int, waiting: int, busy: int) -> int:
        costs, most = self.costs.costs, self.most(key)
        return batch_that_pays(costs, key, waiting, steps=steps, busy=busy, streams=self.streams, most=most)

    def _work_out(self, key: Hashable, steps: int) -> Paying:
        costs, policy = self.costs.costs, self.policy
        full = self._pays_for(key, steps, self.most(key) * self.streams, 0)
        each = [costs.step(key, size, self.streams) / size for size in range(1, full + 1)]

        def least(waste: float) -> int:
            return next(size for size in range(full, 0, -1) if size == 1 or each[size - 2] > waste * each[-1])

        return Paying(full, least(policy.waste), least(policy.waste_started))
