"""A job that is asked otherwise while it lives: where it is made here, from its next step on; else it is made anew."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from videogen.changing import wanted
from videogen.errors import EngineError, EngineUnavailable, InvalidRequest, StoreConflict
from videogen.requests import AcceptedRequest
from videogen.scheduling.job import CLASSES
from videogen.serving.engine.messages import EngineJob
from videogen.serving.engine_process import Forked
from videogen.serving.in_hand import InHand, left
from videogen.serving.jobs import Caller
from videogen.serving.looking import Looking
from videogen.serving.making import Maker
from videogen.serving.store_calls import Call
from videogen.serving.views import accepted_at
from videogen.store.records import Claim, RequestRecord

BOUNDARY_S = 30.0
"""The longest wait for the end of a step, and of what the engine process does before a fork's text."""
Written = tuple[RequestRecord, list[Claim], AcceptedRequest | None]


class Forking:
    """One replica's. Forks take turns, so that each knows what it is made of."""

    def __init__(self, maker: Maker, looking: Looking, call: Call) -> None:
        self.maker, self.store, self.work, self.looking, self.call = maker, maker.store, maker.work, looking, call
        self._turn = asyncio.Lock()

    async def change(self, job_id: str, fields: Mapping[str, Any], caller: Caller) -> RequestRecord:
        """Changes a live job of the caller's. Raises InvalidRequest, or StoreConflict for one that has ended."""
        record = await self._own(job_id, caller)
        version = self.maker.versions.loaded.get(record.version_digest)
        if version is None:
            raise StoreConflict(f"video {job_id} cannot be changed here: {record.label} is not served by this replica")
        asked = wanted(_accepted(record), fields, version.spec, version.vocabulary)
        if "deadline" in asked.planning:
            _check_deadline(job_id, float(asked.planning["deadline"]))
        if asked.planning:
            record = await self._plan(job_id, asked.planning)
        if asked.forking:
            async with self._turn:
                record = await self._fork(await self._own(job_id, caller), asked.forking)
        return record

    async def _own(self, job_id: str, caller: Caller) -> RequestRecord:
        record = await self.call(lambda: self.looking.own(job_id, caller))
        if not record.is_live:
            raise StoreConflict(f"video {job_id} is {record.state}: only one that has not ended can be changed")
        return record

    async def _plan(self, job_id: str, fields: Mapping[str, str | float]) -> RequestRecord:
        """In the queue, and in the engine process if that has it."""
        record = await self.maker.call(lambda: self.store.plan(job_id, fields))
        accepted, held = _accepted(record), self._in_hand(record.generation)
        self.maker.deadlines.again(accepted)
        if held is None:
            self.maker.wake()
        elif held.claim.request.id == job_id:
            held.claim = replace(held.claim, request=accepted)
            self.work.engine.change(job_id, priority=record.priority, deadline_in=left(accepted))
        elif CLASSES.index(record.priority) < CLASSES.index(held.priority):  # it is made for somebody less urgent
            self.work.engine.change(held.claim.request.id, priority=record.priority)
        self.maker.changes.tell(record.generation)
        return record

    def _in_hand(self, generation: str) -> InHand | None:
        """What is made of it here under a lease of this replica's own."""
        held = (one for one in self.work.in_hand.values() if one.claim.generation == generation and one.lent is None)
        return next(held, None)

    async def _fork(self, record: RequestRecord, fields: Mapping[str, str | float]) -> RequestRecord:
        if any(held.claim.generation == record.generation for held in self.work.publishing.values()):
            raise _too_late(record)
        held = self._in_hand(record.generation)
        if held is None:
            return await self._anew(record, fields)
        forked = await self._forked(held, record, fields) if held.is_given else None
        held_still = self._in_hand(record.generation)
        if forked is None and (held_still is not held or held.is_given):  # it ended, or the process did
            return await self._fork(await self._again(record), fields)
        step = forked.step if forked else 0
        if forked and step >= _steps(record):
            self.work.engine.forgo(forked)
            raise _too_late(record)
        try:
            written = await self.maker.call(lambda: self._write(held.claim, record, fields, step))
        except BaseException:
            if forked:
                self.work.engine.forgo(forked)
            raise
        self._settle(held, forked, written)
        return written[0]

    async def _again(self, record: RequestRecord) -> RequestRecord:
        [found] = await self.maker.call(lambda: self.store.find([record.id]))
        if found is None or not found.is_live:
            raise StoreConflict(f"video {record.id} is {found.state if found else 'gone'}: it ended meanwhile")
        return found

    async def _anew(self, record: RequestRecord, fields: Mapping[str, str | float]) -> RequestRecord:
        """Whoever claims it next makes it from the start; what was made of it so far goes on if others wait for it."""
        step = round(record.progress * _steps(record)) if record.state == "running" else 0
        if step >= _steps(record):
            raise _too_late(record)
        changed = await self.maker.call(lambda: self.store.fork(record.id, fields, step))
        self.maker.changes.tell(record.id)
        self.maker.forget_generation(record.generation)
        self.maker.wake()
        return changed

    async def _forked(self, held: InHand, record: RequestRecord, fields: Mapping[str, str | float]) -> Forked | None:
        accepted = _accepted(record)
        weight = self.store.limits.tenant_weights.get(accepted.request.tenant, 1.0)
        job = EngineJob.of(accepted, left(accepted), weight)
        try:
            async with asyncio.timeout(BOUNDARY_S):
                return await self.work.engine.fork(held.claim.request.id, job, fields)
        except TimeoutError as error:
            raise EngineUnavailable(f"no step of video {record.id} ended within {BOUNDARY_S:g} s") from error
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise InvalidRequest("prompt", dict(fields), f"what the model can read ({error})") from error

    def _write(self, old: Claim, record: RequestRecord, fields: Mapping[str, str | float], step: int) -> Written:
        """The request as it is now, the lease on its own generation unless another has that, the old one's heir."""
        changed = self.store.fork(record.id, fields, step)
        is_mine = changed.accepted == _accepted(record).changed(step, fields)  # else another replica changed it too
        claims = self.store.claim([record.id], self.maker.holder, self.maker.limits.lease_s, 1) if is_mine else []
        [namesake] = self.store.find([old.request.id])
        if namesake is not None and namesake.is_live and namesake.generation == old.generation:
            return changed, claims, namesake.accepted
        heir = next(iter(self.store.awaiting(old.generation)), None)
        if heir is None:
            self.store.release([old])
        return changed, claims, heir

    def _settle(self, held: InHand, forked: Forked | None, written: Written) -> None:
        """What is in hand, and what the engine process makes, is what was written."""
        record, claims, heir = written
        engine, old = self.work.engine, held.claim
        is_there = self.work.in_hand.get(old.request.id) is held
        if forked and not claims:
            engine.forgo(forked)
        if is_there and heir is None:
            self.work.drop(old)
        elif is_there and heir is not None and heir.id != old.request.id:
            self.work.out(old.request.id)
            engine.rename(old.request.id, heir.id)
            held.claim = replace(old, request=heir)
            self.work.in_hand[heir.id] = held
            self.maker.deadlines.add(heir)
        for claim in claims:
            steps = _steps(record)
            new = InHand(claim, held.taken_at, progress=(forked.step if forked else 0) / steps)
            new.first_step_at = held.first_step_at if new.progress else None
            new.is_given = forked is not None and engine.begin(forked, instead=heir is None)
            self.work.in_hand[record.id] = new
            self.maker.observer.claimed(1)
        self.work.give_waiting()
        self.maker.changes.tell(old.generation)
        self.maker.changes.tell(record.id)


def _accepted(record: RequestRecord) -> AcceptedRequest:
    assert record.accepted is not None, "own gives none that is damaged"
    return record.accepted


def _steps(record: RequestRecord) -> int:
    return _accepted(record).request.num_inference_steps or 1


def _too_late(record: RequestRecord) -> StoreConflict:
    return StoreConflict(f"video {record.id} has all its steps: it is {record.state}, and too late to change; remix it")


def _check_deadline(job_id: str, deadline: float) -> None:
    passed = time.time() - accepted_at(job_id)
    if deadline <= passed:
        raise InvalidRequest("deadline", deadline, f"more than the {passed:.1f} s that have passed since acceptance")
