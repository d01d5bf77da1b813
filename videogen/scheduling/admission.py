"""What stands before a job: its position, and the seconds of work ahead of it."""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable

from videogen.scheduling.job import Job


class Backlog:
    """All jobs that have not ended, by rank, key and number of steps, each sorted by target.

    Jobs of one such kind cost the same, so what stands before a target is a count in each kind: the time of a query
    grows with the kinds, not with the jobs.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[int, Hashable, int], list[tuple[float, int, Job]]] = {}

    def add(self, job: Job) -> None:
        insort(self._kinds.setdefault((job.rank, job.key, job.steps), []), job.entry)

    def remove(self, job: Job) -> None:
        kind = (job.rank, job.key, job.steps)
        jobs = self._kinds[kind]
        del jobs[bisect_left(jobs, job.entry)]
        if not jobs:
            del self._kinds[kind]

    def before(
        self, rank: int, place: tuple[float, int], started: Iterable[Job], cost: Callable[[Hashable, int], float]
    ) -> tuple[int, float]:
        """How many jobs of a smaller rank, or of this one and of an earlier place (target, order), and their seconds.

        `cost` gives the device's seconds of a job by key and steps. The steps that `started` jobs have are not counted.
        """
        count, seconds = 0, 0.0
        for (other, key, steps), jobs in self._kinds.items():
            if other <= rank:
                ahead = len(jobs) if other < rank else bisect_left(jobs, place)
                count += ahead
                seconds += ahead * cost(key, steps)
        for job in started:
            if (job.rank, job.target, job.order) < (rank, *place):
                seconds -= cost(job.key, job.steps) - cost(job.key, job.remaining)
        return count, max(0.0, seconds)
