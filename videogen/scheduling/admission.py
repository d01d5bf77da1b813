"""What stands before a job: its position, and the seconds of work ahead of it."""

from bisect import bisect_left, insort
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from videogen.scheduling.job import Job

Place: TypeAlias = tuple[int, float, int]
"""Rank, target, order: who goes first has the least."""


@dataclass(slots=True)
class Ahead:
    """Jobs of one key that stand before a place, and their steps; and how many of the key there are in `all`."""

    jobs: int = 0
    steps: int = 0
    all: int = 0


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

    def work(self, started: Iterable[Job], cost: Callable[[Hashable, int], float]) -> float:
        """Seconds of all. `cost` gives the device's seconds of a job by key and steps; `started` may have some done."""
        seconds = sum(len(jobs) * cost(key, steps) for (_, key, steps), jobs in self._kinds.items())
        return max(0.0, seconds - sum(cost(job.key, job.steps) - cost(job.key, job.remaining) for job in started))

    def before(self, place: Place) -> int:
        """How many jobs are of a smaller place."""
        return sum(_ahead(rank, jobs, place) for (rank, _, _), jobs in self._kinds.items())

    def ahead(self, place: Place, started: Iterable[Job]) -> dict[Hashable, Ahead]:
        """What is of a smaller place, by key, also where that is nothing; less the steps that `started` jobs have."""
        found: dict[Hashable, Ahead] = {}
        for (rank, key, steps), jobs in self._kinds.items():
            of = found.setdefault(key, Ahead())
            count = _ahead(rank, jobs, place)
            of.jobs += count
            of.steps += count * steps
            of.all += len(jobs)
        for job in started:
            if (job.rank, job.target, job.order) < place:
                found[job.key].steps -= job.steps_done
        return found

    def last_before(self, place: Place, key: Hashable, most: int) -> list[Job]:
        """Of a key, the last so many jobs of a smaller place, in order."""
        found: list[Job] = []
        for (rank, other, _), jobs in self._kinds.items():
            if other == key and (end := _ahead(rank, jobs, place)):
                found += [entry[2] for entry in jobs[max(0, end - most) : end]]
        return sorted(found, key=lambda job: (job.rank, job.target, job.order))[max(0, len(found) - most) :]


def _ahead(rank: int, jobs: list[tuple[float, int, Job]], place: Place) -> int:
    """How many of the jobs, all of this rank, are of a smaller place."""
    return 0 if rank > place[0] else len(jobs) if rank < place[0] else bisect_left(jobs, place[1:])
