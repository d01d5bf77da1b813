"""What a run has leased is made here for it, beside the queue."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence

from videogen.client.results import HANDED_BACK, ExecuteFailed, Executing, News
from videogen.client.results import Claim as Leased
from videogen.errors import RecordNotFound
from videogen.requests import AcceptedRequest
from videogen.serving.making.workload import Workload
from videogen.serving.store_calls import Call
from videogen.serving.versions.served import Versions
from videogen.store.records import Claim
from videogen.store.store import Store


class Lending:
    """One replica's."""

    def __init__(self, store: Store, call: Call, versions: Versions, work: Workload) -> None:
        self.store, self.call, self.versions, self.work = store, call, versions, work

    async def borrow(self, leases: Sequence[Leased]) -> AsyncGenerator[News]:
        """Makes them and publishes under the run's tokens; what cannot be made here is handed back at once.

        The run keeps its leases alive and tells the store of failures: should this process die, it still holds them.
        Raises RecordNotFound if one of the requests is not in this store.
        """
        given = {lease.generation: lease for lease in leases}
        accepted, damaged = await self._accepted(leases)
        news: asyncio.Queue[News] = asyncio.Queue()
        left, lent = set(given), dict[str, Claim]()
        for generation, lease in given.items():
            request = accepted.get(generation)
            if generation in damaged:
                news.put_nowait(ExecuteFailed(generation, "not_found", "its request is damaged", False))
            elif request is None:
                why = "its request was changed, and nobody else is known to wait for it"
                news.put_nowait(ExecuteFailed(generation, HANDED_BACK, why, True))
            elif why := _why_not(self.versions, request):
                news.put_nowait(ExecuteFailed(generation, HANDED_BACK, why, True))
            else:
                lent[generation] = Claim(generation, lease.token, lease.attempt, request, lease.holder, lease.lease_s)
                self._lend(lent[generation], news.put_nowait)
        try:
            while left:
                item = await news.get()
                if not isinstance(item, Executing):
                    left.discard(item.generation)
                yield item
        finally:  # what others lent since is not touched
            for generation in left & lent.keys():
                self.work.drop(lent[generation])

    async def _accepted(self, leases: Sequence[Leased]) -> tuple[dict[str, AcceptedRequest], set[str]]:
        """By generation, and those that are damaged; one whose request was changed is made for whoever joined it."""

        def look() -> tuple[dict[str, AcceptedRequest], set[str]]:
            records = self.store.find([lease.request_id for lease in leases])
            accepted, damaged = dict[str, AcceptedRequest](), set[str]()
            for lease, record in zip(leases, records, strict=True):
                if record is None:
                    raise RecordNotFound(f"there is no request {lease.request_id}")
                if record.accepted is None:
                    damaged.add(lease.generation)
                elif record.generation == lease.generation:
                    accepted[lease.generation] = record.accepted
                elif others := self.store.awaiting(lease.generation):
                    accepted[lease.generation] = others[0]
            return accepted, damaged

        return await self.call(look)

    def _lend(self, claim: Claim, hear: Callable[[News], None]) -> None:
        """Has it made, or hands it back at once."""
        if (before := self.work.in_hand.get(claim.request.id)) is not None:
            self.work.drop(before.claim)
            self.work.hand_back([before], "its lease is another's by now")
        held = self.work.add(claim, hear)
        if self.work.gives:
            self.work.give_waiting()
        else:
            why = self.work.down or "a job that may end the engine process is tried alone"
            self.work.hand_back([held], why)


def _why_not(versions: Versions, request: AcceptedRequest) -> str | None:
    """Why a lease on it cannot be taken, None if it can."""
    version = versions.loaded.get(request.version_digest)
    if version is None:
        return f"{request.label} is not served here"
    if version.served_as not in request.served_as:
        return f"{version.label} has passed no gates: what it makes is shared with nobody"
    return None
