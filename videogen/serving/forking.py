"""A job that is asked otherwise while it lives: where it is made here, from its next step on; else it is made anew."""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from weakref import WeakValueDictionary

from videogen.changing import wanted
from videogen.errors import Draining, EngineError, EngineUnavailable, InvalidRequest, StoreConflict
from videogen.requests import AcceptedRequest
from videogen.serving.engine_process import Forked
from videogen.serving.jobs import Caller
from videogen.serving.looking import Looking
from videogen.serving.making.in_hand import InHand
from videogen.serving.making.maker import Maker
from videogen.serving.store_calls import Call
from videogen.serving.views import accepted_at
from videogen.store.records import Claim, RequestRecord

BOUNDARY_S = 30.0
"""The longest wait for the end of a step, and of what the engine process does before a fork's text."""
Written = tuple[RequestRecord, list[Claim], list[AcceptedRequest]]


class Forking:
    """One replica's. Changes of what is made of one generation take turns, so that each knows what it is made of."""

    def __init__(self, maker: Maker, looking: Looking, call: Call) -> None:
        self.maker, self.store, self.work, self.looking, self.call = maker, maker.store, maker.work, looking, call
        self._turns = WeakValueDictionary[str, asyncio.Lock]()
        """By generation."""

    async def change(self, job_id: str, fields: Mapping[str, Any], caller: Caller) -> RequestRecord:
        """Changes a live job of the caller's, first what it shows, then when it is made.

        Raises InvalidRequest, StoreConflict for one that has ended, or EngineUnavailable and Draining for what may
        pass when it is asked again, here or of another replica.
        """
        with self.maker.tasks.settling():
            while True:
                generation = (await self._own(job_id, caller)).generation
                async with self._turn_of(generation):
                    record = await self._own(job_id, caller)
                    if record.generation == generation and (changed := await self._changed(record, fields)):
                        return changed

    @asynccontextmanager
    async def _turn_of(self, generation: str) -> AsyncGenerator[None]:
        lock = self._turns.setdefault(generation, asyncio.Lock())
        try:
            async with asyncio.timeout(BOUNDARY_S):
                await lock.acquire()
        except TimeoutError as error:
            raise EngineUnavailable(f"other changes of the same video took more than {BOUNDARY_S:g} s") from error
        try:
            yield
        finally:
            lock.release()

    async def _changed(self, record: RequestRecord, fields: Mapping[str, Any]) -> RequestRecord | None:
        """None if what it was made of ended meanwhile: it is to be looked at again."""
        if self.maker.is_over:
            raise Draining("the service is ending and changes nothing more; another replica does")
        version = self.maker.versions.loaded.get(record.version_digest)
        spec, vocabulary = (version.spec, version.vocabulary) if version else (None, None)
        asked = wanted(record.asked, fields, spec, vocabulary)
        if "deadline" in asked.planning:
            _check_deadline(record.id, float(asked.planning["deadline"]))
        if asked.forking and version is None:
            raise EngineUnavailable(f"{record.label} of video {record.id} is not served by this replica")
        changed = await self._fork(record, asked.forking) if asked.forking else record
        if changed is None or not asked.planning:
            return changed
        return await self._plan(record.id, asked.planning)

    async def _own(self, job_id: str, caller: Caller) -> RequestRecord:
        record = await self.call(lambda: self.looking.own(job_id, caller))
        if not record.is_live:
            raise StoreConflict(f"video {job_id} is {record.state}: only one that has not ended can be changed")
        return record

    async def _plan(self, job_id: str, fields: Mapping[str, str | float]) -> RequestRecord:
        """In the queue, and in the engine process if that has it."""
        record = await self.maker.call(lambda: self.store.plan(job_id, fields))
        self.maker.deadlines.again(record.asked)
        if (held := self._in_hand(record.generation)) is None:
            self.maker.wake()
        else:
            waiting = await self.maker.call(lambda: self.store.awaiting(record.generation))
            if waiting and self._in_hand(record.generation) is held:
                self.maker.hand_on(held, waiting)
        self.maker.changes.tell(record.generation)
        return record

    def _in_hand(self, generation: str) -> InHand | None:
        """What is made of it here under a lease of this replica's own."""
        held = (one for one in self.work.in_hand.values() if one.claim.generation == generation and one.lent is None)
        return next(held, None)

    async def _fork(self, record: RequestRecord, fields: Mapping[str, str | float]) -> RequestRecord | None:
        if any(held.claim.generation == record.generation for held in self.work.publishing.values()):
            raise _too_late(record)
        held = self._in_hand(record.generation)
        if held is None:
            return await self._anew(record, fields)
        forked = await self._forked(held, record, fields) if held.is_given else None
        held_still = self._in_hand(record.generation)
        if forked is None and (held_still is not held or held.is_given):  # it ended, or the process did
            return None
        step = forked.step if forked else 0
        if forked and step >= _steps(record):
            self.work.engine.forgo(forked)
            raise _too_late(record)
        with self.maker.kept_for(record.id) as kept:
            try:
                changed, claims, waiting = await self.maker.call(lambda: self._write(held.claim, record, fields, step))
                if not claims:  # another has the lease, maybe who claims for this replica
                    await self.maker.looked()
            except BaseException:
                if forked:
                    self.work.engine.forgo(forked)
                raise
            claims += [claim for claim in kept if claim.generation == changed.generation]
            kept[:] = [claim for claim in kept if claim.generation != changed.generation]
            self._settle(held, forked, (changed, claims, waiting))
        return changed

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
        if self.maker.stats is not None and self.maker.stats.yielded:
            raise EngineUnavailable(f"others hold the device: video {record.id} can be changed when it goes on")
        try:
            async with asyncio.timeout(BOUNDARY_S):
                return await self.work.engine.fork(held.claim.request.id, self.work.job(record.asked), fields)
        except TimeoutError as error:
            raise EngineUnavailable(f"no step of video {record.id} ended within {BOUNDARY_S:g} s") from error
        except EngineUnavailable:
            raise
        except EngineError as error:
            raise InvalidRequest("prompt", dict(fields), f"what the model can read ({error})") from error

    def _write(self, old: Claim, record: RequestRecord, fields: Mapping[str, str | float], step: int) -> Written:
        """The request as it is now, the lease on its own generation unless another has that, who waits for the old."""
        changed = self.store.fork(record.id, fields, step)
        is_mine = changed.accepted == record.asked.changed(step, fields)  # else another replica changed it too
        claims = self.store.claim([record.id], self.maker.holder, self.maker.limits.lease_s, 1) if is_mine else []
        waiting = self.store.awaiting(old.generation)
        if not waiting:
            self.store.release([old])
        return changed, claims, waiting

    def _settle(self, held: InHand, forked: Forked | None, written: Written) -> None:
        """What is in hand, and what the engine process makes, is what was written."""
        record, claims, waiting = written
        engine, old = self.work.engine, held.claim
        is_there = self.work.in_hand.get(old.request.id) is held
        if forked and (not claims or self.maker.is_over):
            engine.forgo(forked)
        if self.maker.is_over:
            self.maker.take(claims)
            return
        if is_there and not waiting:
            self.work.drop(old)
        elif is_there:
            self.maker.hand_on(held, waiting)
        for claim in claims:
            steps = _steps(record)
            new = InHand(claim, held.taken_at, progress=(forked.step if forked else 0) / steps)
            new.first_step_at = held.first_step_at if new.progress else None
            new.is_given = forked is not None and engine.begin(forked, instead=not waiting)
            self.work.in_hand[record.id] = new
            self.maker.observer.claimed(1)
        self.work.give_waiting()
        self.maker.changes.tell(old.generation)
        self.maker.changes.tell(record.id)


def _steps(record: RequestRecord) -> int:
    return record.asked.request.num_inference_steps or 1


def _too_late(record: RequestRecord) -> StoreConflict:
    return StoreConflict(f"video {record.id} has all its steps: it is {record.state}, and too late to change; remix it")


def _check_deadline(job_id: str, deadline: float) -> None:
    passed = time.time() - accepted_at(job_id)
    if deadline <= passed:
        raise InvalidRequest("deadline", deadline, f"more than the {passed:.1f} s that have passed since acceptance")
