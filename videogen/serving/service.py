"""What the service does, whatever the transport: accept, answer, watch, cancel, hand out.

Accepted means recorded in the store: any replica on the same store answers for any job, and finishes what another
began. The store is called in a small thread pool, never on the event loop.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from videogen.errors import Draining, EngineUnavailable, InvalidRequest, RecordNotFound, SessionNotFound
from videogen.serving.admin import Admin
from videogen.serving.admission import Admission, ServiceLimits
from videogen.serving.bounded_calls import BoundedCalls
from videogen.serving.contents import Contents
from videogen.serving.entering import Entering
from videogen.serving.forking import Forking
from videogen.serving.jobs import Caller, Content, ModelInfo, Page, VideoJob
from videogen.serving.looking import Looking
from videogen.serving.making.maker import Maker
from videogen.serving.readiness import Readiness
from videogen.serving.sessions import Sessions
from videogen.serving.store_calls import Call, in_threads, patiently
from videogen.serving.telemetry.observing import Observer
from videogen.serving.telemetry.overview import Overview
from videogen.serving.telemetry.reporting import ended
from videogen.serving.telemetry.tracing import carried
from videogen.serving.versions.swapping import Swapper
from videogen.serving.views import REMIXED_FROM
from videogen.serving.watching import Watching
from videogen.serving.wishes import Wishes
from videogen.store.idempotency import Idempotency
from videogen.store.records import RequestRecord

PATIENCE_S = 30.0
"""For how long the store may be away or busy while a job is given up by who went away."""


class Service:
    """One replica. Its methods belong to one event loop.

    What names a job raises RecordNotFound for one that is not there or not the caller's; every method may raise
    StoreUnavailable.
    """

    def __init__(
        self,
        maker: Maker,
        limits: ServiceLimits | None = None,
        observer: Observer | None = None,
        swapper: Swapper | None = None,
        overview: Overview | None = None,
        wishes: Wishes | None = None,
    ) -> None:
        """`wishes` hears of all that is asked, where what will probably be asked for again is made ahead."""
        self.maker, self.store, self.versions, self.work = maker, maker.store, maker.versions, maker.work
        self.observer, self.wishes, limits = observer or maker.observer, wishes, limits or ServiceLimits()
        self.readiness = Readiness(maker.work, maker.tasks, swapper)
        self.calls = BoundedCalls(maker.executor, lambda: self.readiness.away)
        self.call = in_threads(self.calls)
        self.admin = Admin(maker, self.call, self.readiness, swapper, overview or Overview())
        self.sessions, self.contents = Sessions(self.store, self.call), Contents(self.store, self.call)
        self.admission = Admission(self.store, limits, maker.pace)
        self.looking = Looking(self.store, self.admission, limits.price_per_hour)
        self.forking = Forking(maker, self.looking, self.call)
        self.watching = Watching(maker, self.looking, self.call)
        self.watch = self.watching.watch
        self.entering = Entering(maker, self.admission, self.watching, self.calls, self.observer, wishes)

    async def submit(
        self,
        fields: Mapping[str, Any],
        caller: Caller,
        idempotency_key: str | None = None,
        webhook_url: str | None = None,
        session: str | None = None,
    ) -> VideoJob:
        """Accepts a request, which is in the store when this returns.

        `fields` as `videogen.requests.Request` has them; the tenant is the caller's. `webhook_url` was checked before,
        and is told the end. The defaults of `session` fill what `fields` leave out. Raises InvalidRequest, Draining,
        SessionNotFound, and Overloaded if it could not be answered in time.
        """
        if self.readiness.draining:
            raise Draining("the service is ending and takes no more requests; another replica does")
        self._check_loaded()
        sent = fields if session is None else {**fields, "session": session}
        key = None if idempotency_key is None else Idempotency(idempotency_key, _digest(sent))
        if session is not None:
            try:
                fields = await self.sessions.filled(fields, session, caller)
            except SessionNotFound as gone:
                if (job := await self.entering.sent_before(key, caller)) is None:
                    raise gone
                return job  # sent again after its session ended
        if isinstance(given := fields.get("metadata", {}), Mapping) and (metadata := carried(given)):
            fields = {**fields, "metadata": metadata}
        # To its end, although who asks may leave meanwhile: what was claimed is to be made.
        accepting = self.entering.enter(fields, caller, key, webhook_url)
        if session is not None:
            accepting = self.sessions.remembered(accepting, session, caller)
        return await asyncio.shield(asyncio.ensure_future(accepting))

    async def get(self, job_id: str, caller: Caller) -> VideoJob:
        """The job as it stands."""
        return await self.watching.get(job_id, caller)

    async def list(
        self, caller: Caller, *, after: str | None = None, limit: int = 20, order: str = "desc"
    ) -> Page[VideoJob]:
        """The caller's jobs by the time of their acceptance, those beyond the job `after`; 1 to 100 of them."""
        if not 1 <= limit <= 100:
            raise InvalidRequest("limit", limit, "a whole number from 1 to 100")
        if order not in ("asc", "desc"):
            raise InvalidRequest("order", order, "asc or desc")
        held = {*self.work.in_hand, *self.work.publishing}
        page = await self.call(lambda: self.looking.page(caller, held, after, limit, order == "desc"))
        return dataclasses.replace(page, data=tuple(map(self.watching.told, page.data)))

    async def cancel(self, job_id: str, caller: Caller) -> VideoJob:
        """Ends a job that has not ended; its video is still made if others wait for it. One that ended stays so."""
        return await self._cancel(job_id, caller, self.call)

    def abandon(self, job_id: str, caller: Caller) -> None:
        """Cancels the job of a caller who went away, however many others ask: it would be made for nobody."""
        self.maker.tasks.spawn(self._abandon(job_id, caller), settles=True)

    async def _abandon(self, job_id: str, caller: Caller) -> None:
        with contextlib.suppress(RecordNotFound):
            await patiently(lambda: self._cancel(job_id, caller, self.maker.call), PATIENCE_S)

    async def _cancel(self, job_id: str, caller: Caller, call: Call) -> VideoJob:
        def cancel() -> tuple[RequestRecord, VideoJob]:
            record = self.looking.own(job_id, caller)
            return record, self.looking.job(self.store.cancel(job_id), waits=False)

        record, job = await call(cancel)
        self._cancelled(record)
        return self.watching.told(job)

    async def delete(self, job_id: str, caller: Caller) -> None:
        """Cancels a job and hides it from its caller; the video stays for others who asked for the same."""

        def hide() -> RequestRecord:
            record = self.looking.own(job_id, caller)
            if record.is_live:
                self.store.cancel(job_id)
            self.looking.hide(job_id, caller)
            return record

        self._cancelled(await self.call(hide))

    def _cancelled(self, record: RequestRecord) -> None:
        self.maker.forget_generation(record.generation)
        if record.is_live and record.accepted is not None:
            self.observer.ended(ended(record.accepted, "cancelled", time.time()))

    async def change(self, job_id: str, fields: Mapping[str, Any], caller: Caller) -> VideoJob:
        """Asks a job that has not ended otherwise: `videogen.changing` has what may be changed, and from when on.

        Raises InvalidRequest for anything else, StoreConflict for one that has ended.
        """
        # To its end, although who asks may leave meanwhile: what is written, in hand and being made must agree.
        changing = self.forking.change(job_id, fields, caller)
        record = await asyncio.shield(asyncio.ensure_future(changing))
        waits = self.work.held(job_id) is None
        return self.watching.told(await self.call(lambda: self.looking.job(record, waits=waits)))

    async def remix(self, job_id: str, prompt: str, caller: Caller) -> VideoJob:
        """A new job with another prompt, and the seed and parameters of this one. Raises InvalidRequest."""
        record = await self.call(lambda: self.looking.own(job_id, caller))
        assert record.accepted is not None
        old = record.accepted.at_last
        fields = old.model_dump(mode="json", exclude={"tenant", "lane", "deadline", "prompt", "metadata", "model"})
        model = record.label if record.version_digest in self.versions.loaded else old.model
        metadata = {**old.metadata, REMIXED_FROM: job_id}
        return await self.submit(fields | {"prompt": prompt, "metadata": metadata, "model": model}, caller)

    async def content(self, job_id: str, caller: Caller) -> Content:
        """A finished job's video. Raises StoreConflict while there is none, RecordExpired when it is gone."""
        return self.contents.of(await self.get(job_id, caller))

    async def models(self, caller: Caller) -> Sequence[ModelInfo]:
        """What is served now. Raises EngineUnavailable until anything is."""
        self._check_loaded()
        return self.versions.infos()

    def _check_loaded(self) -> None:
        if self.versions.current is None:
            raise EngineUnavailable(f"the service is starting: {self.work.down}")

    async def stop(self, grace_s: float = 30.0) -> None:
        """Finishes or hands back what is in hand."""
        self.readiness.draining = True
        await self.maker.stop(grace_s)


def _digest(fields: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(dict(fields), sort_keys=True, default=str).encode()).hexdigest()
