"""From what a caller asks for to a request in the store, claimed for this replica if its turn has come."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from videogen.errors import InvalidRequest, Overloaded, RecordNotFound
from videogen.requests import AcceptedRequest
from videogen.serving.admission import Admission
from videogen.serving.bounded_calls import BoundedCalls
from videogen.serving.gathering import Gathering, alone
from videogen.serving.jobs import CacheUse, Caller, VideoJob
from videogen.serving.making.maker import Maker
from videogen.serving.store_calls import in_threads
from videogen.serving.telemetry import observing
from videogen.serving.telemetry.reporting import ended
from videogen.serving.watching import Watching
from videogen.serving.wishes import Wishes
from videogen.store.each import attempted
from videogen.store.idempotency import Idempotency
from videogen.store.records import Claim, NewRequest, Receipt, RequestRecord
from videogen.store.webhooks import Webhook

SOURCE = "videogen serve"
"""Who submitted, as the store keeps it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a caller asks for. `claims_it`: this replica takes it from the queue at once."""

    fields: Mapping[str, Any]
    caller: Caller
    key: Idempotency | None
    webhook_url: str | None
    claims_it: bool


@dataclass(frozen=True, slots=True)
class Submission:
    """A request that is in the store: as it was accepted, its job, what was claimed with it, and how it is answered."""

    accepted: AcceptedRequest
    job: VideoJob
    generation: str
    claims: list[Claim]
    cache: CacheUse


class Entering:
    """One replica's."""

    def __init__(
        self,
        maker: Maker,
        admission: Admission,
        watching: Watching,
        calls: BoundedCalls,
        observer: observing.Observer,
        wishes: Wishes | None,
    ) -> None:
        self.maker, self.store, self.versions, self.work = maker, maker.store, maker.versions, maker.work
        self.admission, self.watching, self.call = admission, watching, in_threads(calls)
        self.observer, self.wishes = observer, wishes
        self._submit = self._submit_alone = alone(self.call, self._submit_all)
        if self.store.records.has_blocks:
            self._submit = Gathering(self.call, self._submit_all, most=calls.most)

    async def enter(
        self, fields: Mapping[str, Any], caller: Caller, key: Idempotency | None, webhook_url: str | None
    ) -> VideoJob:
        """Accepts a request, which is in the store when this returns, and makes it if its turn has come.

        Raises InvalidRequest, and Overloaded if it could not be answered in time.
        """
        claims_it = self.maker.takes_newcomers
        self.maker.entering += claims_it
        try:
            # What its key or its webhook writes by itself is not for others to wait for.
            submit = self._submit if key is None and webhook_url is None else self._submit_alone
            entered = await submit(Wanted(fields, caller, key, webhook_url, claims_it))
        except InvalidRequest as refused:  # by what serves now; what served then may have accepted it
            if (job := await self._accepted_before(key, caller)) is None:
                raise refused
            return job
        finally:
            self.maker.entering -= claims_it
        accepted, job, cache = entered.accepted, entered.job, entered.cache
        self.maker.take(entered.claims)
        if job.state == "queued" and not entered.claims:
            self.maker.wake()
        if job.id != accepted.id:  # the same idempotency key once more
            return self.watching.told(job)
        if cache == "joined" and not job.has_ended:
            self.work.joined(entered.generation, accepted)
        asked = job.request
        told = observing.Submitted(job.id, caller.tenant, job.label, asked.priority, cache, asked.prompt)
        self.observer.submitted(told)
        if self.wishes is not None:
            self.wishes.asked(fields, caller)
        if not job.has_ended:
            self.maker.deadlines.add(accepted, accepted_here=True)
        if cache == "hit":
            self.observer.ended(ended(accepted, "completed", time.time()))
        return job

    async def sent_before(self, key: Idempotency | None, caller: Caller) -> VideoJob | None:
        """The job that came with a key; None if none did. Raises InvalidRequest if it was asked otherwise."""
        if key is None or (job_id := await self.call(lambda: self.store.known(key, caller.tenant))) is None:
            return None
        try:
            return await self.watching.get(job_id, caller)
        except RecordNotFound:  # the key was kept for a request that never came, or is no more
            return None

    async def _accepted_before(self, key: Idempotency | None, caller: Caller) -> VideoJob | None:
        try:
            return await self.sent_before(key, caller)
        except InvalidRequest:
            return None

    # Where the store is called

    def _submit_all(self, wanted: Sequence[Wanted]) -> list[Submission | Exception]:
        new, beside = list[NewRequest | Exception](), list[AcceptedRequest]()
        for one in wanted:
            new.append(prepared := attempted(partial(self._prepare, one, beside)))
            if isinstance(prepared, NewRequest):
                beside.append(prepared.accepted)
        receipts = iter(self.store.submit_all([one for one in new if isinstance(one, NewRequest)]))

        def told(one: NewRequest | Exception) -> Submission | Exception:
            if not isinstance(one, NewRequest):
                return one
            receipt = next(receipts)
            return attempted(partial(self._told, one, receipt)) if isinstance(receipt, Receipt) else receipt

        return [told(one) for one in new]

    def _prepare(self, wanted: Wanted, beside: Sequence[AcceptedRequest]) -> NewRequest:
        """What is to be submitted, its webhook in the store. Raises InvalidRequest and Overloaded."""
        fields, caller, key = wanted.fields, wanted.caller, wanted.key
        if fields.get("tenant", caller.tenant) != caller.tenant:
            raise InvalidRequest("tenant", fields["tenant"], f"{caller.tenant}, whose key this is; or leave it out")
        accepted = self.versions.accept(fields, caller.tenant)
        try:
            self.admission.check(accepted, beside)
        except Overloaded:
            if key is None or self.store.known(key, caller.tenant) is None:
                raise
        if wanted.webhook_url is not None:  # before its request, which is not accepted without it
            job_id = accepted.id if key is None else self.store.reserve(key, accepted)
            self.store.webhooks.add(Webhook(job_id, wanted.webhook_url, caller.tenant, caller.key_id))
        claims_it = wanted.claims_it and accepted.version_digest in self.versions.loaded
        holder, lease_s = self.maker.holder if claims_it else None, self.maker.limits.lease_s
        return NewRequest(accepted, SOURCE, key, holder, lease_s)

    def _told(self, new: NewRequest, receipt: Receipt) -> Submission:
        record, claims = receipt.record, receipt.claims
        self.admission.entered(record)
        job = self.watching.looking.job(record, waits=not claims)
        return Submission(new.accepted, job, record.generation, claims, self._cache(record, job, claims))

    def _cache(self, record: RequestRecord, job: VideoJob, claims: list[Claim]) -> CacheUse:
        """As the job's usage will tell it."""
        if job.usage is not None:
            return job.usage.cache
        if claims or job.ungated:
            return "miss"
        return "joined" if record.joined or not self.store.is_first(record) else "miss"
