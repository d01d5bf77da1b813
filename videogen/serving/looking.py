"""A caller's requests as the store has them, as jobs. Used where the store is called."""

import math
import time
from collections.abc import Collection, Sequence

from videogen.errors import InvalidRequest, RecordNotFound
from videogen.serving.admission import Admission
from videogen.serving.jobs import Caller, Page, VideoJob
from videogen.serving.views import view
from videogen.store.pace import Eta
from videogen.store.primitives import Record, Set, Write
from videogen.store.queue import chunks
from videogen.store.records import RequestRecord, VideoRecord
from videogen.store.store import Store

HIDDEN = "hidden-request"
"""The kind of the records that say which requests their callers deleted."""
MOST_LISTED = 5000
"""Requests, those accepted last first, of all callers, among which a list looks for a caller's own."""
CHUNK = 100
ETA_S = 1.0
MOST_ETAS = 10_000


class Looking:
    """`price_per_hour` is in US dollars of a device, None unpriced."""

    def __init__(self, store: Store, admission: Admission, price_per_hour: float | None) -> None:
        self.store, self.admission, self.price_per_hour = store, admission, price_per_hour
        self._etas: dict[str, tuple[float, Eta | None]] = {}

    def own(self, job_id: str, caller: Caller) -> RequestRecord:
        """Raises RecordNotFound for what is not the caller's, or was hidden by them."""
        record = self.store.find([job_id])[0]
        if record is None or not _is_of(caller, record) or self._hidden([job_id]):
            raise RecordNotFound(f"there is no video {job_id[:100]!r}")
        return record

    def hide(self, job_id: str, caller: Caller) -> None:
        """The caller sees it no more."""
        keep = self.store.limits.keep_requests
        self.store.records.write(Write(HIDDEN, job_id, (Set("tenant", caller.tenant),), ttl=keep))

    def job(self, record: RequestRecord, *, waits: bool) -> VideoJob:
        """`waits`: it is in the queue, as far as this replica knows, so where is of interest."""
        return self.jobs([record], [record.id] if waits else [])[0]

    def jobs(self, records: Sequence[RequestRecord], waiting: Collection[str]) -> list[VideoJob]:
        done = [record for record in records if record.state == "done" and record.video is not None]
        found = self.store.videos([(record.video or "", record.generation) for record in done]) if done else []
        videos: dict[str, VideoRecord | None] = dict(zip([record.id for record in done], found, strict=True))
        return [
            view(
                record,
                videos.get(record.id),
                eta=self._eta(record) if record.id in waiting else None,
                price_per_hour=self.price_per_hour,
            )
            for record in records
        ]

    def ended(self, record: RequestRecord, video: VideoRecord) -> VideoJob:
        """A job of which all is known: nothing is looked at."""
        return view(record, video if record.state == "done" else None, price_per_hour=self.price_per_hour)

    def page(
        self, caller: Caller, held: Collection[str], after: str | None, limit: int, newest_first: bool
    ) -> Page[VideoJob]:
        """The caller's jobs by acceptance, those beyond `after`. `held`: those that are with the engine here."""
        if after is not None:
            self._check_place(after, caller)
        ids, is_cut = self.store.latest(MOST_LISTED)
        found: list[RequestRecord] = []
        beyond = (one for one in (ids if newest_first else reversed(ids)) if _is_beyond(one, after, newest_first))
        for some in chunks(beyond, CHUNK):
            found += self._owned(caller, some)
            if len(found) > limit:
                break
        shown = found[:limit]
        waiting = {record.id for record in shown} - set(held)
        return Page(tuple(self.jobs(shown, waiting)), len(found) > limit, is_cut)

    def _check_place(self, after: str, caller: Caller) -> None:
        """A list may go on after a video that was deleted since it was listed. Raises InvalidRequest."""
        record = self.store.find([after])[0] if after else None
        if record is None or not _is_of(caller, record):
            raise InvalidRequest("after", after, "the id of a video of yours, such as the last of the page before")

    def _owned(self, caller: Caller, ids: Sequence[str]) -> list[RequestRecord]:
        owned = [record for record in self.store.find(ids) if record is not None and _is_of(caller, record)]
        hidden = self._hidden([record.id for record in owned])
        return [record for record in owned if record.id not in hidden]

    def _hidden(self, ids: Sequence[str]) -> set[str]:
        found = zip(ids, self.store.records.read_many(HIDDEN, ids) if ids else [], strict=True)
        return {request_id for request_id, record in found if isinstance(record, Record)}

    def _eta(self, record: RequestRecord) -> Eta | None:
        """Where a job stands; beyond what admission counts, at most `ETA_S` old: that reads the whole lane."""
        if record.state not in ("queued", "assigned"):
            return None
        if (place := self.admission.place(record)) is not None:
            return place
        now = time.monotonic()
        told_at, eta = self._etas.get(record.id, (-math.inf, None))
        if now - told_at > ETA_S:
            if len(self._etas) >= MOST_ETAS:
                self._etas.clear()
            eta = self.store.eta(record.id)
            self._etas[record.id] = now, eta
        return eta


def _is_of(caller: Caller, record: RequestRecord) -> bool:
    return record.accepted is not None and record.accepted.request.tenant == caller.tenant


def _is_beyond(job_id: str, after: str | None, newest_first: bool) -> bool:
    return after is None or (job_id < after if newest_first else job_id > after)
