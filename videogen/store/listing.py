"""Which requests there are: those that wait, in the order of their turns, and those that ended, latest first."""

import itertools
from collections.abc import Iterable

from videogen.requests import Lane
from videogen.store.pace import Eta
from videogen.store.queue import CHUNK, RequestQueue, chunks
from videogen.store.records import END_STATES, RequestRecord, RequestState

MOST_LIVE = 20_000
"""Live requests among which the latest are looked for."""


class Listing:
    """Looks through the lanes and journals of a queue."""

    def __init__(self, queue: RequestQueue) -> None:
        self.queue = queue

    def waiting(self, lane: Lane, limit: int, version_digest: str | None = None) -> list[RequestRecord]:
        """Up to `limit` requests that are in no batch and not being made, in the order of their turns."""
        found: list[RequestRecord] = []
        for ids in chunks((entry.request_id for entry in self.queue.live.entries(lane)), CHUNK):
            records = [record for record in self.queue.get_many(ids) if record is not None and record.state == "queued"]
            found += [record for record in records if version_digest in (None, record.version_digest)]
            if len(found) >= limit:
                break
        return found[:limit]

    def overdue(self, lane: Lane, seconds: float, limit: int) -> list[RequestRecord]:
        """Up to `limit` requests that were put into a lane that long ago and that nobody makes."""
        before = self.queue.records.now() - seconds
        ids = (entry.request_id for entry in self.queue.live.entries(lane) if float(entry.put_at) <= before)
        found = self.queue.get_many(list(itertools.islice(ids, limit)))
        return [record for record in found if record is not None and record.state == "queued"]

    def is_awaited(self, lane: Lane, version_digest: str) -> bool:
        """Is there a live request for a version in a lane, whoever makes it?"""
        for ids in chunks((entry.request_id for entry in self.queue.live.entries(lane)), CHUNK):
            live = (record for record in self.queue.get_many(ids) if record is not None and record.is_live)
            if any(record.version_digest == version_digest for record in live):
                return True
        return False

    def position(self, request_id: str) -> int | None:
        """How many stand before a live request in its lane, None if it has ended. Raises RecordNotFound."""
        record = self.queue.get(request_id)
        if not record.is_live:
            return None
        before = itertools.takewhile(lambda entry: entry.request_id != request_id, self.queue.live.entries(record.lane))
        return sum(1 for _ in before)

    def eta(self, request_id: str) -> Eta | None:
        """How many stand before a live request and how long that may take. Raises RecordNotFound."""
        if (position := self.position(request_id)) is None:
            return None
        pace = self.queue.pace.per_second(self.queue.get(request_id).lane)
        return Eta(position, None if pace is None else (position + 1) / pace)

    def find_all(self, states: Iterable[RequestState] | None, limit: int) -> list[RequestRecord]:
        """Up to `limit` requests, live ones first, then the latest that ended."""
        wanted = set(states or (*END_STATES, "queued", "assigned", "running"))
        found: dict[str, RequestRecord] = {}
        sources = [entry.request_id for entry in self.queue.entries()] if wanted - set(END_STATES) else []
        for ids in chunks(sources, CHUNK):
            found |= {r.id: r for r in self.queue.get_many(ids) if r is not None and r.state in wanted}
            if len(found) >= limit:
                return list(found.values())[:limit]
        for ids in chunks(self.queue.ended.latest() if wanted & set(END_STATES) else (), CHUNK):
            found |= {r.id: r for r in self.queue.get_many(ids) if r is not None and r.state in wanted}
            if len(found) >= limit:
                break
        return list(found.values())[:limit]

    def latest(self, most: int) -> tuple[list[str], bool]:
        """Ids of requests, those accepted last first, as ids sort by that; and whether older ones are left out."""
        live = list(itertools.islice((entry.request_id for entry in self.queue.entries()), MOST_LIVE + 1))
        ended = list(itertools.islice(self.queue.ended.latest(), most + 1))
        ids = sorted({*live, *ended}, reverse=True)
        return ids[:most], len(ids) > most or len(live) > MOST_LIVE
