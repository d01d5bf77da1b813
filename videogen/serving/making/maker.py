"""From the store's queue through the engine process back to the store: claim, run, keep alive, publish.

The leases are this process's, whatever becomes of the engine: what killed it, as far as one can tell, is failed, to be
tried again; what merely waited in it goes to its successor.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Executor
from functools import partial

from videogen.client.results import Executing
from videogen.errors import RecordNotFound, StoreUnavailable, VideogenError
from videogen.requests import AcceptedRequest
from videogen.serving.admission import Pace
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import (
    Died,
    EngineConfig,
    EngineEvent,
    Failed,
    Finished,
    Loading,
    Progress,
    Stats,
    VersionToLoad,
)
from videogen.serving.engine_process import EngineProcess
from videogen.serving.making.claiming import Claimer
from videogen.serving.making.deadlines import Deadlines
from videogen.serving.making.in_hand import InHand, Making, left
from videogen.serving.making.leases import Leases
from videogen.serving.making.presence import Presence
from videogen.serving.making.results import Results
from videogen.serving.making.reviving import Reviver
from videogen.serving.making.speed import Speed
from videogen.serving.making.workload import Workload
from videogen.serving.store_calls import in_threads
from videogen.serving.tasks import Tasks
from videogen.serving.telemetry.observing import Observer
from videogen.serving.telemetry.reporting import EngineReport, ended
from videogen.serving.versions.served import ServedVersion, Versions
from videogen.store.records import Claim, Json
from videogen.store.servers import Server
from videogen.store.store import Store

logger = logging.getLogger(__name__)
LAST_S = 5.0
"""For what is under way when the service ends, and for what goes into the store then."""
LOOK_S = 5.0
"""For what the store is asked while an engine process that was started again waits for its work."""


class Maker:
    """Keeps one engine process at work. All of it runs on one event loop; the store is called in `executor`."""

    def __init__(
        self,
        store: Store,
        config: EngineConfig,
        versions: Versions,
        changes: Changes,
        holder: str,
        executor: Executor,
        observer: Observer | None = None,
        limits: Making | None = None,
        provenance: Mapping[str, Json] | None = None,
    ) -> None:
        self.store, self.versions, self.changes, self.holder = store, versions, changes, holder
        self.observer, self.limits, self.call = observer or Observer(), limits or Making(), in_threads(executor)
        self.executor, self.tasks = executor, Tasks()
        self.engine, self.speed = EngineProcess(config, self.heard), Speed()
        self.stats: Stats | None = None
        self.entering = 0
        """Requests that are being accepted, to be claimed in the same trip to the store."""
        self.work = Workload(self.engine, self.speed, store.limits, self.wake)
        self.reviver = Reviver(self.engine, self.limits, self._is_down)
        self.deadlines = Deadlines(self._has_left)
        self.presence = Presence(store, self.stands, self.limits.unserved_s)
        lease_s = self.limits.lease_s
        self._leases = Leases(store, self.call, self.work, lease_s)
        self._claimer = Claimer(store, self.call, holder, self.limits)
        self._results = Results(store, self.call, self.observer, holder, provenance or {}, outlast_s=lease_s)
        self._report = EngineReport(self.observer)
        self._taking = True
        self._kept: dict[str, list[Claim]] = {}
        self.is_over = False
        """Is what is claimed now given back at once?"""

    async def start(self, version: ServedVersion, to_load: VersionToLoad) -> None:
        """Starts the process with one version. Raises EngineError, and leaves nothing behind."""
        self.tasks.last(lambda: self.presence.keep(self.call), "telling the other replicas")
        try:
            loaded = await self.reviver.start(to_load)
            streams = self.engine.ready.streams if self.engine.ready else 1
            self.speed.learn(loaded, version.spec.num_inference_steps, streams)
        except BaseException:
            await self.engine.stop(0)
            await self._leave()
            raise
        self.versions.admit(version)
        self.work.down = None
        claiming = partial(self._claimer.run, lambda: self.room, self._served, self.take)
        self.tasks.last(claiming, "claiming")
        self.tasks.last(self._leases.keep, "the renewal of leases")

    async def unload(self, digest: str) -> None:
        """Lets a version go once nothing of it is in hand."""
        while self.work.has_of(digest):
            await asyncio.sleep(0.05)
        await self.reviver.unload(digest)

    def stands(self) -> Server:
        """What the other replicas are told of this one."""
        current, loading = self.versions.current, self.reviver.to_load.values()
        served = {*self._served(), *(one.served_as for one in loading), *([current.served_as] if current else [])}
        return Server(self.holder, frozenset(served), 1 / self.speed.seconds_each)

    def _served(self) -> list[str]:
        return [version.served_as for version in self.versions.loaded.values()]

    def pace(self, accepted: AcceptedRequest) -> Pace:
        """What admission goes by for a request."""
        lent = self.work.lent_before(accepted.request.priority)
        return Pace(self.stands(), self.speed.step_s, lent, self.speed.publish_s, self.speed.steps_each)

    async def stop(self, grace_s: float) -> None:
        """Takes nothing more, waits for what is in hand, then gives the rest back unused."""
        self._taking = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self.work.in_hand and self.work.down is None:
                    await asyncio.sleep(0.02)
        unused = [held.claim for held in self.work.in_hand.values() if held.lent is None]
        self.work.hand_back(self.work.in_hand.values(), "the service is ending")
        self.work.in_hand.clear()
        self.is_over = True
        await self.tasks.settled(max(grace_s, LAST_S))
        await self._leave()
        await self.engine.stop(0 if unused else 1.0)
        await self._leases.release(unused)
        await self.tasks.settled(LAST_S)

    async def _leave(self) -> None:
        """Ends what goes on beside what goes into the store, and tells the other replicas."""
        self.deadlines.stop()
        await self.tasks.cancel_others(LAST_S)
        with contextlib.suppress(StoreUnavailable):
            await self.call(lambda: self.store.servers.leave(self.holder))

    # Claiming

    def wake(self) -> None:
        """Something was queued here just now."""
        self._claimer.wake()

    @property
    def room(self) -> int:
        """How many more may be taken from the queue.

        What runs have lent keeps nobody waiting there, and what has all its steps leaves the steps to others.
        """
        if not self._taking or not self.work.gives:
            return 0
        return self.speed.ahead(self.limits) - self.work.asks_for_steps - self.entering

    @property
    def takes_newcomers(self) -> bool:
        """May a request be claimed as it is accepted? Not where others wait that may go before it."""
        return self._claimer.saw_none and self.room > 0

    def take(self, claims: list[Claim]) -> None:
        """Hands claims to the engine, with whatever it has yet to get."""
        if self.is_over:
            self.tasks.spawn(self._leases.release(claims), settles=True)
            return
        now = [claim for claim in claims if not self._waits(claim)]
        for claim in now:
            self.work.add(claim)
            self.deadlines.add(claim.request)
            self.changes.tell(claim.generation, claim.request.id)
        self.work.give_waiting()
        if now:
            self.observer.claimed(len(now))

    def _waits(self, claim: Claim) -> bool:
        """Is it kept for the change of its request, or taken once what is made under its name is out of the way?"""
        if (kept := self._kept.get(claim.request.id)) is not None:
            kept.append(claim)
            return True
        before = self.work.in_hand.get(claim.request.id)
        if before is None or before.claim.generation == claim.generation:
            return False
        self.tasks.spawn(self._take_after(before, claim), settles=True)
        return True

    @contextlib.contextmanager
    def kept_for(self, request_id: str) -> Generator[list[Claim]]:
        """What is claimed meanwhile for a request that is being changed here; what is left of it is then taken."""
        kept = self._kept[request_id] = []
        try:
            yield kept
        finally:
            del self._kept[request_id]
            self.take(kept)

    async def looked(self) -> None:
        """Waits until what is being claimed just now is taken, or kept."""
        await self._claimer.looked()

    async def _take_after(self, before: InHand, claim: Claim) -> None:
        """A request that was changed elsewhere comes again: what was made of it goes on if others wait for it."""
        waiting: list[AcceptedRequest] = []
        if before.lent is None:
            with contextlib.suppress(VideogenError):
                waiting = await self.call(lambda: self.store.awaiting(before.claim.generation))
        if self.work.in_hand.get(claim.request.id) is before:
            if waiting:
                self.hand_on(before, waiting)
            elif self.work.drop(before.claim):
                self.work.hand_back([before], "its request was changed")
                if before.lent is None:
                    self.tasks.spawn(self._leases.release([before.claim]), settles=True)
        self.take([claim])

    def hand_on(self, held: InHand, waiting: Sequence[AcceptedRequest]) -> None:
        """What is made here goes on for those who wait for it."""
        self.work.hand_on(held, waiting)
        self.deadlines.add(held.claim.request)

    def forget_generation(self, generation: str) -> None:
        """A request for it was cancelled: looks at once whether anybody still wants its video."""
        self.changes.tell(generation)
        self.tasks.spawn(self._leases.look(generation))

    async def _has_left(self, job_id: str, accepted_here: bool) -> float | None:
        """Seconds until the deadline of a job, None if it has ended. The replica that accepted it tells of its end."""
        try:
            record = await self.call(lambda: self.store.request(job_id))
        except RecordNotFound:
            return None
        except VideogenError as error:
            logger.warning("a deadline cannot be looked at: %s", error)
            return 0.0
        if record.state == "expired":
            self.forget_generation(record.generation)
            if accepted_here and record.accepted is not None:
                self.observer.ended(ended(record.accepted, "expired", time.time(), error=record.error))
        return (left(record.accepted) or 0.0) if record.is_live and record.accepted is not None else None

    # What the engine tells

    def heard(self, event: EngineEvent) -> None:
        """The engine process's callback."""
        match event:
            case Progress():
                self._progressed(event)
            case Finished():
                self.reviver.has_made = True
                if held := self.work.made(event.id):
                    self.tasks.spawn(self._publish(held, event), settles=True)
            case Failed(code="cancelled"):
                pass  # what was dropped here; it may have come again since
            case Failed():
                if held := self.work.out(event.id):
                    self.tasks.spawn(self._fail(held, event.error, event.retry, event.code), settles=True)
            case Stats():
                self.stats, self.speed.step_s = event, event.step_seconds or self.speed.step_s
                waiting = (one.priority for one in self.work.in_hand.values() if one.first_step_at is None)
                self._report.heard(event, waiting, self.work.down is None)
            case Loading():
                logger.info("%s: %s", event.version_digest[:12], event.text)
                if self.versions.current is None:
                    self.work.down = f"loading: {event.text}"
            case Died():
                if self.reviver.died():
                    self._is_down(f"the engine process ended (exit code {event.exit_code}) and is being started again")
                    self.tasks.spawn(self._revive(event), needed_as="the revival of the engine process")

    def _progressed(self, event: Progress) -> None:
        self.speed.stepped()
        held = self.work.in_hand.get(event.id)
        if held is not None:
            held.progress = event.steps_done / event.steps
            if held.progress >= 1.0:
                self._claimer.has_room()
            held.first_step_at = held.first_step_at or time.monotonic()
            if held.lent is not None:
                held.lent(Executing(held.claim.generation, held.progress))
            self.changes.tell(held.claim.generation, event.id, in_store=False)

    async def _publish(self, held: InHand, event: Finished) -> None:
        self._claimer.has_room()
        self.speed.made(event.facts)
        began = time.monotonic()
        try:
            published = await self._results.publish(held, event)
        finally:
            self.work.publishing.pop(event.id, None)
        if published is not None:
            self.speed.published(time.monotonic() - began)
            self.changes.ended(published)
        self.changes.tell(held.claim.generation, event.id)

    async def _fail(self, held: InHand, error: str, retry: bool, code: str = "generation_failed") -> None:
        await self._results.fail(held, error, retry, code)
        self.wake()
        self.changes.tell(held.claim.generation, held.claim.request.id)

    async def _look_who_waits(self) -> None:
        """What is in hand may have been joined, or left, since it was claimed, and elsewhere."""
        known = [(held, held.waiting) for held in self.work.in_hand.values() if held.lent is None]
        try:
            async with asyncio.timeout(LOOK_S):
                found = await self.call(lambda: [self.store.awaiting(held.claim.generation) for held, _ in known])
        except (VideogenError, TimeoutError) as error:
            why = str(error) or f"no answer within {LOOK_S:.0f} s"
            logger.warning("who waits for what is in hand cannot be looked at, and is taken as before: %s", why)
            return
        for (held, before), waiting in zip(known, found, strict=True):
            if held.waiting is before:
                held.waiting = tuple(waiting)

    def _is_down(self, why: str) -> None:
        self.work.down = why
        logger.error("%s", why)

    async def _revive(self, event: Died) -> None:
        """After a death: what is to blame has used up an attempt; what waited goes to the next process."""
        blamed = self.work.died(event)
        logger.error("%d were in a batch or alone, %d waited", len(blamed), len(self.work.in_hand) - len(blamed))
        for request_id in blamed:
            if held := self.work.out(request_id):
                await self._fail(held, "the engine process ended while it made this video", True)
        self.work.hand_back(self.work.in_hand.values(), "the engine process ended before it began with this video")
        await self.reviver.revive()
        await self._look_who_waits()
        self.work.down = None
        self.observer.restarted()
        self.work.give_waiting()
        self.wake()
