"""What a run has leased is made here for it, beside the queue."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from videogen.client.results import HANDED_BACK, ExecuteFailed, Executing, News
from videogen.client.results import Claim as Leased
from videogen.errors import RecordNotFound
from videogen.requests import AcceptedRequest
from videogen.serving.making import Maker
from videogen.serving.versions import Versions
from videogen.serving.views import UNGATED
from videogen.store.records import Claim


async def borrow(maker: Maker, leases: Sequence[Leased]) -> AsyncGenerator[News]:
    """Makes them and publishes under the run's tokens; what cannot be made here is handed back at once.

    The run keeps its leases alive and tells the store of failures: should this process die, it still holds them. Raises
    RecordNotFound if one of the requests is not in this store.
    """
    given = {lease.generation: lease for lease in leases}
    records = await maker.call(lambda: maker.store.find([lease.request_id for lease in leases]))
    found = [record for record in records if record is not None]
    if missing := {lease.request_id for lease in leases} - {record.id for record in found}:
        raise RecordNotFound(f"there is no request {min(missing)}")
    accepted = {record.generation: record.accepted for record in found if record.accepted is not None}
    news: asyncio.Queue[News] = asyncio.Queue()
    left, lent = set(given), dict[str, Claim]()
    for generation, lease in given.items():
        request = accepted.get(generation)
        if request is None:
            news.put_nowait(ExecuteFailed(generation, "not_found", "its request is damaged", False))
        elif why := _why_not(maker.versions, request):
            news.put_nowait(ExecuteFailed(generation, HANDED_BACK, why, True))
        else:
            lent[generation] = Claim(generation, lease.token, lease.attempt, request, lease.holder, lease.lease_s)
            maker.lend(lent[generation], news.put_nowait)
    try:
        while left:
            item = await news.get()
            if not isinstance(item, Executing):
                left.discard(item.generation)
            yield item
    finally:
        maker.take_back([claim for generation, claim in lent.items() if generation in left])


def _why_not(versions: Versions, request: AcceptedRequest) -> str | None:
    """Why a lease on it cannot be taken, None if it can."""
    version = versions.loaded.get(request.version_digest)
    if version is None:
        return f"{request.label} is not served here"
    if version.ungated and not request.fingerprint.startswith(UNGATED):
        return f"{version.label} has passed no gates: what it makes is shared with nobody"
    return None
