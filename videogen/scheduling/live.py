"""The jobs that have not ended: who waits, who is in a run, in which orders."""

import itertools
from bisect import bisect_left, insort
from collections.abc import Hashable
from operator import attrgetter

from videogen.scheduling.backlog import Backlog
from videogen.scheduling.fairness import Shares
from videogen.scheduling.job import CLASSES, Job
from videogen.scheduling.line import Line
from videogen.scheduling.run import Run

RANKS = range(2 * len(CLASSES))
MISSED = len(RANKS)
"""Of a key, what is late for a deadline has a line of its own, so many places after its rank."""


class LiveJobs:
    """Every job is in `jobs`, `ages` and `backlog`; one that is in no run is in the line of its rank and in that of its
    key too, and in `paused` if it has steps. A change costs a search and a shift in each of these lists.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.ages: list[tuple[float, int, Job]] = []
        """By when they come of age."""
        self.backlog = Backlog()
        self.shares = [Shares() for _ in CLASSES]
        self.lines = [Line(self.shares[rank // 2]) for rank in RANKS]
        self.by_key: dict[Hashable, dict[int, Line]] = {}
        self.paused: dict[str, Job] = {}
        self.runs: dict[Run, float] = {}
        """With what each of its jobs was charged when it began."""
        self._orders = itertools.count()

    def number(self, job: Job) -> None:
        """Gives the job its place among those that tie with it."""
        job.order = next(self._orders)

    # Comes and goes

    def enter(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.shares_of(job).join(job.tenant)
        insort(self.ages, (job.aged_at, job.order, job))
        self.backlog.add(job)

    def leave(self, job: Job) -> None:
        del self.jobs[job.id]
        self.shares_of(job).leave(job.tenant)
        del self.ages[bisect_left(self.ages, (job.aged_at, job.order))]
        self.backlog.remove(job)

    # Waits and runs

    def wait(self, job: Job) -> None:
        """It is in no run."""
        place, lines = _place(job), self.by_key.setdefault(job.key, {})
        if place not in lines:
            lines[place] = Line(self.shares_of(job))
        self.lines[job.rank].add(job)
        lines[place].add(job)
        if job.steps_done:
            self.paused[job.id] = job

    def take(self, job: Job) -> None:
        """It waits no more."""
        place, lines = _place(job), self.by_key[job.key]
        self.lines[job.rank].remove(job)
        lines[place].remove(job)
        if not lines[place].jobs:
            del lines[place]
            if not lines:
                del self.by_key[job.key]
        self.paused.pop(job.id, None)

    def start(self, job: Job, charge: float) -> None:
        """It goes into a run, for which its tenant is charged so many seconds beforehand."""
        self.take(job)
        job.busy = True
        self.shares_of(job).charge(job.tenant, charge, job.weight)

    def set_late(self, job: Job) -> None:
        """A job that waits won't end by its target: from now on those of its class that can go before it."""
        self.take(job)
        job.set_late(True)
        self.wait(job)

    # Who is here

    def shares_of(self, job: Job) -> Shares:
        return self.shares[job.rank // 2]

    @property
    def running(self) -> int:
        return sum(len(run.jobs) for run in self.runs)

    @property
    def waiting(self) -> int:
        return len(self.jobs) - self.running

    def waiting_of(self, key: Hashable) -> int:
        return sum(len(line.jobs) for line in self.by_key[key].values()) if key in self.by_key else 0

    def running_of(self, key: Hashable) -> int:
        return sum(len(run.jobs) for run in self.runs if run.jobs[0].key == key)

    def first_of(self, key: Hashable, rank: int, most: float, *, missed: bool) -> Job | None:
        """As `Line.first`, of a key; of what is late for a deadline only with `missed`."""
        lines = self.by_key.get(key, {})
        first = lines[rank].first(most) if rank in lines else None
        if not missed or rank + MISSED not in lines:
            return first
        other = lines[rank + MISSED].first(most)
        return min((job for job in (first, other) if job is not None), key=attrgetter("entry"), default=None)

    def started(self) -> list[Job]:
        """Those that have steps, or are about to."""
        return [*self.paused.values(), *(job for run in self.runs for job in run.jobs)]

    def allowed(self, rank: int, fairness_s: float) -> float:
        """What a tenant may have got that joins a run: no more than those who wait, and what fairness allows."""
        on_time, late = self.lines[rank - rank % 2].floor(), self.lines[rank - rank % 2 + 1].floor()
        if rank % 2 == 0:
            late += fairness_s
        return min(on_time, late) + fairness_s


def _place(job: Job) -> int:
    """Which line of its key it waits in."""
    return job.rank + MISSED if job.late and job.deadline is not None else job.rank
