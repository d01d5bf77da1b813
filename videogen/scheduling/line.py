"""Jobs that wait, by target and by tenant.

Plain sorted lists: to shift ten thousand references costs a few microseconds, and nothing stale is ever left behind.
"""

import heapq
import math
from bisect import bisect_left, insort

from videogen.scheduling.fairness import Shares
from videogen.scheduling.job import Job


class Line:
    """The waiting jobs of one rank, of one key or of all."""

    __slots__ = ("_behind", "_known", "_of", "_shares", "jobs")

    def __init__(self, shares: Shares) -> None:
        self.jobs: list[tuple[float, int, Job]] = []
        self._of: dict[str, list[tuple[float, int, Job]]] = {}
        self._shares = shares
        self._behind: list[tuple[float, str]] = []
        self._known: set[str] = set()

    def __len__(self) -> int:
        return len(self.jobs)

    def add(self, job: Job) -> None:
        insort(self.jobs, job.entry)
        own = self._of.get(job.tenant)
        if own is None:
            self._of[job.tenant] = [job.entry]
        else:
            insort(own, job.entry)
        if job.tenant not in self._known:
            self._known.add(job.tenant)
            heapq.heappush(self._behind, (self._shares[job.tenant], job.tenant))

    def remove(self, job: Job) -> None:
        own = self._of[job.tenant]
        del self.jobs[bisect_left(self.jobs, job.entry)]
        if len(own) == 1:
            del self._of[job.tenant]
        else:
            del own[bisect_left(own, job.entry)]

    def least(self) -> str | None:
        """The tenant that got least so far, of those that wait here."""
        while self._behind:
            got, tenant = self._behind[0]
            if tenant not in self._of:
                heapq.heappop(self._behind)
                self._known.discard(tenant)
            elif self._shares[tenant] > got:
                heapq.heapreplace(self._behind, (self._shares[tenant], tenant))
            else:
                return tenant
        return None

    def floor(self) -> float:
        """What that tenant got, infinite if nobody waits."""
        tenant = self.least()
        return math.inf if tenant is None else self._shares[tenant]

    def first(self, most: float) -> Job | None:
        """The earliest target of a tenant that got no more than `most`; else the earliest of who got least, if that
        is no more than `most`.
        """
        if not self.jobs:
            return None
        job = self.jobs[0][2]
        if self._shares[job.tenant] <= most:
            return job
        tenant = self.least()
        if tenant is None or self._shares[tenant] > most:
            return None
        return self._of[tenant][0][2]
