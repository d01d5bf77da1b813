"""From the store's queue through the engine process back to the store: claim, run, keep alive, publish.

The leases are this process's, whatever becomes of the engine: what killed it, as far as one can tell, is failed, to be
tried again; what merely waited in it goes to its successor.
"""

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from videogen.client.results import HANDED_BACK, ExecuteFailed, Executing, News
from videogen.errors import EngineError, EngineUnavailable, RecordNotFound, StoreUnavailable, VideogenError
from videogen.requests import AcceptedRequest
from videogen.scheduling.job import CLASSES
from videogen.scheduling.policy import AGEING_S
from videogen.serving.admission import Pace
from videogen.serving.changes import Changes
from videogen.serving.claiming import Claimer
from videogen.serving.deadlines import Deadlines
from videogen.serving.engine.messages import (
    Died,
    EngineConfig,
    EngineEvent,
    EngineJob,
    Failed,
    Finished,
    Loaded,
    Loading,
    Progress,
    Stats,
    VersionToLoad,
)
from videogen.serving.engine_process import EngineProcess
from videogen.serving.in_hand import InHand, Making, left
from videogen.serving.lasting import lasting
from videogen.serving.observing import Observer
from videogen.serving.presence import Presence
from videogen.serving.reporting import EngineReport, ended
from videogen.serving.results import Results
from videogen.serving.suspects import Suspects
from videogen.serving.versions import ServedVersion, Versions
from videogen.serving.views import device_seconds
from videogen.store.records import Claim, Json
from videogen.store.servers import Server
from videogen.store.store import Store

logger = logging.getLogger(__name__)
T = TypeVar("T")
SETTLES = "settles"
"""The name of tasks that tell the store what came of a claim."""
LAST_S = 5.0
"""For what is under way when the service ends, and for what goes into the store then."""


@dataclass(slots=True)
class Maker:
    """Keeps one engine process at work. All of it runs on one event loop; the store is called in `executor`."""

    store: Store
    config: EngineConfig
    versions: Versions
    changes: Changes
    holder: str
    executor: Executor
    observer: Observer = field(default_factory=Observer)
    limits: Making = field(default_factory=Making)
    provenance: Mapping[str, Json] = field(default_factory=dict)
    engine: EngineProcess = field(init=False)
    deadlines: Deadlines = field(init=False)
    presence: Presence = field(init=False)
    suspects: Suspects = field(default_factory=Suspects)
    _report: EngineReport = field(init=False)
    _claimer: Claimer = field(init=False)
    _results: Results = field(init=False)
    in_hand: dict[str, InHand] = field(default_factory=dict)
    publishing: dict[str, InHand] = field(default_factory=dict)
    """Made, and on its way into the store; its lease is still kept alive."""
    stats: Stats | None = None
    entering: int = 0
    """Requests that are being accepted, to be claimed in the same trip to the store."""
    down: str | None = "the engine process is starting"
    """Why nothing is being made, None while something can be."""
    restarts: int = 0
    seconds_each: float = 0.1
    """Of the device for one video, when it has enough to do: a moving average of those made here."""
    step_s: float = 0.05
    """Of one step as it goes now, whatever the batch."""
    batches_ahead: int = 0
    """Of two full batches for each stream: with fewer in hand, a device whose steps are slow never fills one."""
    _taking: bool = True
    _is_over: bool = False
    """Is what is claimed now given back at once?"""
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _to_load: dict[str, VersionToLoad] = field(default_factory=dict)
    _steps: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    _started_at: float = 0.0
    _deaths: int = 0
    _has_made: bool = False
    """Has the engine process that is there made a video?"""
    _reviving: bool = True

    def __post_init__(self) -> None:
        self.engine = EngineProcess(self.config, self.heard)
        self._report = EngineReport(self.observer)
        self._claimer = Claimer(self.store, self.call, self.holder, self.limits)
        self._results = Results(
            self.store, self.call, self.observer, self.holder, self.provenance, outlast_s=self.limits.lease_s
        )
        self.deadlines = Deadlines(self._has_ended)
        self.presence = Presence(self.store, self.stands, self.limits.unserved_s)

    async def start(self, version: ServedVersion, to_load: VersionToLoad) -> None:
        """Starts the process with one version. Raises EngineError, and leaves nothing behind."""
        self._to_load = {version.version_digest: to_load}
        self._spawn(lasting(lambda: self.presence.keep(self.call), "telling the other replicas"))
        try:
            await self.engine.start()
            self._learn(version, await self.engine.load(to_load))
            if not self.engine.alive:
                raise EngineUnavailable("the engine process ended as soon as it was loaded")
        except BaseException:
            await self.engine.stop(0)
            await self._leave()
            raise
        self.versions.admit(version)
        self.down, self._reviving, self._started_at = None, False, time.monotonic()
        claiming = partial(self._claimer.run, lambda: self.room, lambda: self.versions.loaded, self.take)
        self._spawn(lasting(claiming, "claiming"))
        self._spawn(lasting(self._renew, "the renewal of leases"))

    async def load(self, version: ServedVersion, to_load: VersionToLoad) -> None:
        """Loads a further version beside those that are there; it is not admitted yet. Raises EngineError."""
        await self.engine.load(to_load)
        self._to_load[version.version_digest] = to_load

    def _learn(self, version: ServedVersion, loaded: Loaded) -> None:
        """What a video takes, as far as the load's measurements tell it: those made later correct it."""
        step_s = {int(batch): seconds for batch, seconds in loaded.step_s.items()}
        steps = version.spec.num_inference_steps
        self.step_s = step_s[min(step_s)]
        self.seconds_each = steps * min(seconds / batch for batch, seconds in step_s.items())
        streams = self.engine.ready.streams if self.engine.ready else 1
        self.batches_ahead = 2 * loaded.batch_max * streams

    async def unload(self, digest: str) -> None:
        """Lets a version go once nothing of it is in hand."""
        while any(held.claim.request.version_digest == digest for held in self.in_hand.values()):
            await asyncio.sleep(0.05)
        self._to_load.pop(digest, None)
        await self.engine.unload(digest)

    def stands(self) -> Server:
        """What the other replicas are told of this one."""
        current = self.versions.current
        digests = {*self.versions.loaded, *self._to_load, *([current.version_digest] if current else [])}
        return Server(self.holder, frozenset(digests), 1 / self.seconds_each)

    def pace(self, accepted: AcceptedRequest) -> Pace:
        """What admission goes by for a request."""
        rank, now = CLASSES.index(accepted.request.priority), time.monotonic()
        lent = [held for held in list(self.in_hand.values()) if held.lent is not None]
        return Pace(self.stands(), self.step_s, sum(_goes_before(held, rank, now) for held in lent))

    def longest_gap(self, since: float) -> float:
        """The longest time without a step from `since` (monotonic seconds) until now."""
        times = [since, *(one for one in self._steps if one > since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))

    async def stop(self, grace_s: float) -> None:
        """Takes nothing more, waits for what is in hand, then gives the rest back unused."""
        self._taking = False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while self.in_hand and self.down is None:
                    await asyncio.sleep(0.02)
        unused = [held.claim for held in self.in_hand.values() if held.lent is None]
        self._hand_back(list(self.in_hand.values()), "the service is ending")
        self.in_hand.clear()
        self._is_over = True
        await self._settled(max(grace_s, LAST_S))
        await self._leave()
        await self.engine.stop(0 if unused else 1.0)
        await self._release(unused)
        await self._settled(LAST_S)

    async def _settled(self, seconds: float) -> None:
        """Waits for what goes into the store."""
        settling = [task for task in self._tasks if task.get_name() == SETTLES]
        if settling:
            await asyncio.wait(settling, timeout=seconds)

    async def _release(self, claims: list[Claim]) -> None:
        """Gives leases back unused; where the store is away, they run out."""
        try:
            if claims:
                await self.call(lambda: self.store.release(claims))
        except VideogenError as error:
            logger.warning("leases could not be given back: %s", error)

    async def _leave(self) -> None:
        """Ends what goes on beside what goes into the store, and tells the other replicas."""
        self.deadlines.stop()
        if others := [task for task in self._tasks if task.get_name() != SETTLES]:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=LAST_S)
        with contextlib.suppress(StoreUnavailable):
            await self.call(lambda: self.store.servers.leave(self.holder))

    async def call(self, work: Callable[[], T]) -> T:
        """Runs a store call where it blocks nobody."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    # Claiming

    def wake(self) -> None:
        """Something was queued here just now."""
        self._claimer.wake()

    @property
    def room(self) -> int:
        """How many more may be taken from the queue.

        What runs have lent keeps nobody waiting there, and what has all its steps leaves the steps to others.
        """
        if not self._taking or not self._gives:
            return 0
        least = max(self.limits.least_ahead, self.batches_ahead)
        ahead = max(least, math.ceil(self.limits.ahead_s / self.seconds_each))
        own = sum(held.lent is None and held.progress < 1.0 for held in self.in_hand.values())
        return min(ahead, self.limits.most_ahead) - own - self.entering

    @property
    def takes_newcomers(self) -> bool:
        """May a request be claimed as it is accepted? Not where others wait that may go before it."""
        return self._claimer.saw_none and self.room > 0

    def take(self, claims: list[Claim]) -> None:
        """Hands claims to the engine, with whatever it has yet to get."""
        if self._is_over:
            self._spawn(self._release(claims), SETTLES)
            return
        for claim in claims:
            self.in_hand[claim.request.id] = InHand(claim, time.monotonic())
            self.deadlines.add(claim.request)
            self.changes.tell(claim.generation)
        self._give_waiting()
        if claims:
            self.observer.claimed(len(claims))

    def lend(self, claim: Claim, hear: Callable[[News], None]) -> None:
        """Makes what another holds the lease of, beside the queue; or hands it back at once."""
        if (before := self.in_hand.get(claim.request.id)) is not None:
            self._drop(before.claim)
            self._hand_back([before], "its lease is another's by now")
        self.in_hand[claim.request.id] = held = InHand(claim, time.monotonic(), hear)
        if self._gives:
            self._give_waiting()
        else:
            self._hand_back([held], self.down or "a job that may end the engine process is tried alone")

    def take_back(self, claims: Iterable[Claim]) -> None:
        """Who lent these does not want them any more. What others lent since is not touched."""
        for claim in claims:
            self._drop(claim)

    def _hand_back(self, some: Iterable[InHand], why: str) -> None:
        """Lets go of what was lent, as if it had never been; what is not lent is not touched."""
        for held in some:
            if held.lent is not None:
                self._out(held.claim.request.id)
                held.lent(ExecuteFailed(held.claim.generation, HANDED_BACK, why, True))

    @property
    def _gives(self) -> bool:
        """Does the engine process get what comes now?"""
        return self.down is None and not self.suspects.holds_back

    def _give_waiting(self) -> None:
        waiting = {one: held.claim.attempt for one, held in self.in_hand.items() if not held.is_given}
        if self.down is None and (waiting or self.suspects.holds_back):
            last = {one for one, attempt in waiting.items() if 1 < attempt >= self.store.limits.max_attempts}
            for request_id in self.suspects.next(list(waiting), last, is_idle=len(waiting) == len(self.in_hand)):
                self._give(self.in_hand[request_id])

    def _give(self, held: InHand) -> None:
        accepted, request = held.claim.request, held.claim.request.request
        held.is_given = True
        self.engine.run(
            EngineJob(
                id=accepted.id,
                version_digest=accepted.version_digest,
                request=accepted.model_dump(mode="json"),
                tenant=request.tenant,
                priority=request.priority,
                deadline_in=left(accepted),
                weight=self.store.limits.tenant_weights.get(request.tenant, 1.0),
            )
        )

    def _out(self, request_id: str) -> InHand | None:
        """It is in hand no more."""
        self.suspects.ended(request_id)
        return self.in_hand.pop(request_id, None)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self.limits.lease_s / 5)
            held = [one for one in (*self.in_hand.values(), *self.publishing.values()) if one.lent is None]
            if not held:
                continue
            progress = {one.claim.generation: one.progress for one in held}
            try:
                renewal = await self.call(
                    lambda held=held, told=progress: self.store.renew([h.claim for h in held], told)
                )
            except VideogenError as error:
                logger.warning("leases could not be renewed: %s", error)
                continue
            dropped = [claim for claim in (*renewal.lost, *renewal.unwanted) if self._drop(claim)]
            unwanted = [claim for claim in dropped if claim in renewal.unwanted]
            await self._release(unwanted)

    def forget_generation(self, generation: str) -> None:
        """A request for it was cancelled: looks at once whether anybody still wants its video."""
        self.changes.tell(generation)
        for held in self.in_hand.values():
            if held.claim.generation == generation:
                self._spawn(self._release_if_unwanted(held))

    async def _release_if_unwanted(self, held: InHand) -> None:
        claim = held.claim
        with contextlib.suppress(StoreUnavailable):
            renewal = await self.call(lambda: self.store.renew([claim]))
            if renewal.unwanted and self._drop(claim):
                self._hand_back([held], "nobody wants it any more")
                if held.lent is None:
                    await self.call(lambda: self.store.release([claim]))

    def _drop(self, claim: Claim) -> bool:
        held = self.in_hand.get(claim.request.id)
        if held is None or held.claim.token != claim.token:
            return False
        self._out(claim.request.id)
        self.engine.cancel(claim.request.id)
        self.wake()
        return True

    async def _has_ended(self, job_id: str, accepted_here: bool) -> bool:
        """Looks at a job whose deadline passed. The replica that accepted it tells of it."""
        try:
            record = await self.call(lambda: self.store.request(job_id))
        except RecordNotFound:
            return True
        except VideogenError as error:
            logger.warning("a deadline cannot be looked at: %s", error)
            return False
        if record.state == "expired":
            self.forget_generation(record.generation)
            if accepted_here and record.accepted is not None:
                self.observer.ended(ended(record.accepted, "expired", time.time(), error=record.error))
        return not record.is_live

    # What the engine tells

    def heard(self, event: EngineEvent) -> None:
        """The engine process's callback."""
        match event:
            case Progress():
                self._progressed(event)
            case Finished():
                self._has_made = True
                if held := self._out(event.id):
                    held.progress, self.publishing[event.id] = 1.0, held
                    self._spawn(self._publish(held, event), SETTLES)
            case Failed():
                if held := self._out(event.id):
                    self._spawn(self._fail(held, event.error, event.retry, event.code), SETTLES)
            case Stats():
                self.stats, self.step_s = event, event.step_seconds or self.step_s
                waiting = [one for one in self.in_hand.values() if one.first_step_at is None]
                self._report.heard(event, (one.claim.request.request.priority for one in waiting), self.down is None)
            case Loading():
                logger.info("%s: %s", event.version_digest[:12], event.text)
            case Died():
                if self._reviving:  # it died while it loaded, which whoever loads hears of by itself
                    return
                self.down = f"the engine process ended (exit code {event.exit_code}) and is being started again"
                self._reviving = True
                self._spawn(self._revive(event))

    def _progressed(self, event: Progress) -> None:
        self._steps.append(time.monotonic())
        held = self.in_hand.get(event.id)
        if held is not None:
            held.progress = event.steps_done / event.steps
            if held.progress >= 1.0:
                self._claimer.has_room()
            held.first_step_at = held.first_step_at or time.monotonic()
            if held.lent is not None:
                held.lent(Executing(held.claim.generation, held.progress))
            self.changes.tell(held.claim.generation, in_store=False)

    async def _publish(self, held: InHand, event: Finished) -> None:
        self._claimer.has_room()
        if (spent := device_seconds(event.facts)) > 0:
            self.seconds_each += 0.1 * (spent - self.seconds_each)
        try:
            await self._results.publish(held, event)
        finally:
            self.publishing.pop(event.id, None)
        self.changes.tell(held.claim.generation)

    async def _fail(self, held: InHand, error: str, retry: bool, code: str = "generation_failed") -> None:
        await self._results.fail(held, error, retry, code)
        self.wake()
        self.changes.tell(held.claim.generation)

    async def _revive(self, event: Died) -> None:
        """After a death: what is to blame has used up an attempt; what waited goes to the next process."""
        blamed = self.suspects.died(event.busy, [one for one in self.in_hand if one in event.held])
        for held in self.in_hand.values():
            held.is_given, held.progress = False, 0.0
        logger.error(
            "%s; %d were in a batch or alone, %d waited", self.down, len(blamed), len(self.in_hand) - len(blamed)
        )
        for request_id in blamed:
            if held := self._out(request_id):
                await self._fail(held, "the engine process ended while it made this video", True)
        self._hand_back(list(self.in_hand.values()), "the engine process ended before it began with this video")
        died_young = not self._has_made and time.monotonic() - self._started_at < self.limits.young_s
        self._deaths, self._has_made = self._deaths + 1 if died_young else 1, False
        while True:
            first, longest = self.limits.restart_s
            await asyncio.sleep(min(longest, first * 2 ** (self._deaths - 1)))
            try:
                await self.engine.start()
                for to_load in list(self._to_load.values()):
                    await self.engine.load(to_load)
                if self.engine.alive:
                    break
                raise EngineUnavailable("it ended as soon as it was loaded")
            except EngineError as error:
                self._deaths += 1
                self.down = f"the engine process cannot be started: {error}"
                logger.error("%s", self.down)
                await self.engine.stop(0)
        self.down, self._started_at, self.restarts = None, time.monotonic(), self.restarts + 1
        self._reviving = False
        self.observer.restarted()
        self._give_waiting()
        self.wake()

    def _spawn(self, work: Coroutine[None, None, None], name: str | None = None) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the service failed", exc_info=task.exception())


def _goes_before(held: InHand, rank: int, now: float) -> bool:
    """Does the scheduler let it go before a newcomer of the class `rank`?

    Of its own class as good as nothing does: of a run's many jobs most are late, and those go after who can be in time.
    """
    priority = held.claim.request.request.priority
    return CLASSES.index(priority) < rank or now - held.taken_at > AGEING_S[priority]
