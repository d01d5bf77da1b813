"""What each tenant of a class got of the device: start-time fair queueing (Goyal, Vin and Cheng, 1996)."""

import heapq


class Shares:
    """Seconds of the device over weight, by tenant.

    One who comes back starts level with those who wait: idle time earns nothing. A tenant's number never falls, which
    lets others keep it in heaps.
    """

    def __init__(self) -> None:
        self.floor = 0.0
        """What the tenant furthest behind had when a run was last chosen."""
        self._got: dict[str, float] = {}
        self._credit: dict[str, float] = {}
        self._jobs: dict[str, int] = {}
        self._idle: list[tuple[float, str]] = []

    def __getitem__(self, tenant: str) -> float:
        return self._got[tenant]

    def __len__(self) -> int:
        """Tenants that are remembered."""
        return len(self._got)

    def join(self, tenant: str) -> None:
        """The tenant has one more job."""
        if not self._jobs.get(tenant):
            self._got[tenant] = max(self._got.get(tenant, 0.0), self.floor)
        self._jobs[tenant] = self._jobs.get(tenant, 0) + 1

    def leave(self, tenant: str) -> None:
        """One of the tenant's jobs left."""
        self._jobs[tenant] -= 1
        if not self._jobs[tenant]:
            del self._jobs[tenant]
            heapq.heappush(self._idle, (self._got[tenant], tenant))

    def charge(self, tenant: str, seconds: float, weight: float) -> None:
        """The tenant is about to get so much; less than 0 gives back what it was charged too much."""
        owed = seconds / weight - self._credit.pop(tenant, 0.0)
        if owed < 0:
            self._credit[tenant] = -owed
        else:
            self._got[tenant] += owed

    def raise_floor(self, least: float) -> None:
        """The tenant furthest behind has `least`; who is idle and not ahead of that is forgotten."""
        self.floor = max(self.floor, least)
        while self._idle and self._idle[0][0] <= self.floor:
            tenant = heapq.heappop(self._idle)[1]
            if tenant not in self._jobs and self._got.get(tenant, 0.0) <= self.floor:
                self._got.pop(tenant, None)
                self._credit.pop(tenant, None)
