"""From a sealed batch to published videos: claim, generate, encode, publish, until nothing of the batch is left.

One thread generates; another encodes and publishes what is there meanwhile; a third keeps the leases alive. If the
process dies, the leases run out, and whoever drains the batch's requests next goes on with what is left. Where there is
a service, it makes and publishes under the leases of the drain, which keeps them, and makes what the service leaves.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from videogen.client.results import HANDED_BACK, Executed, ExecuteFailed, Executing, News
from videogen.errors import GenerationFailed, InvalidRequest, LeaseLost, ServiceAway, VideogenError
from videogen.generate import Failure
from videogen.heartbeat import Heartbeat
from videogen.outlasting import outlasting
from videogen.stopwatch import Stopwatch
from videogen.store.records import Claim, Json, VideoRecord
from videogen.store.store import Store

if TYPE_CHECKING:
    import numpy as np

    from videogen.generate import Clip, Progress
    from videogen.requests import AcceptedRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")
LEASE_S = 60.0
WAVE = 32
BEATS_PER_LEASE = 6
SLOWEST_BEAT_S = 5.0
UNPUBLISHED = 8
"""Clips that wait to be encoded before the generating thread waits too: they are held in memory as frames."""
TELL_S = 0.5

Encode = Callable[["np.ndarray", float], bytes]


class Generates(Protocol):
    """What a drain asks of `videogen.generate.Generator`."""

    def generate(
        self, requests: "Sequence[AcceptedRequest]", on_progress: "Progress | None" = None
    ) -> "Iterator[Clip | Failure]": ...


class Executes(Protocol):
    """What a drain asks of `videogen.remote.RemoteService`."""

    def execute(self, claims: Sequence[Claim]) -> Iterator[News]:
        """Makes and publishes the videos of leases that the caller keeps alive. Raises ServiceAway."""
        ...


@dataclass(frozen=True, slots=True)
class DrainProgress:
    """How far a drain is. `running`: request id -> share of its steps taken, in [0, 1]."""

    batch_id: str
    total: int
    published: int
    failed: int
    running: Mapping[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class DrainReport:
    """What a drain did. Where the other requests of the batch are, `Store.batch_requests` says.

    `stages`: seconds in "lease", "service", "generate" (of which "text", "denoise" and "decode" per stream), "mp4",
    "publish" and "fail", summed over threads. `overhead_s`: wall time in which no video was generated, here or by the
    service, nor an MP4 encoded. `by_service`: how many of `published` the service made; `service_gone`: why it did not
    stay until the end, None if it did.
    """

    batch_id: str
    published: Mapping[str, VideoRecord]
    failed: Mapping[str, str]
    lost: int
    unwanted: int
    seconds: float
    overhead_s: float
    stages: Mapping[str, float]
    by_service: int = 0
    service_gone: str | None = None

    @property
    def overhead_share(self) -> float:
        """The share of wall time that neither generation nor MP4 accounts for."""
        return self.overhead_s / self.seconds if self.seconds else 0.0


def drain(
    store: Store,
    batch_id: str,
    generator: Generates,
    *,
    holder: str,
    provenance: Mapping[str, Json],
    encode: Encode | None = None,
    lease_s: float = LEASE_S,
    wave: int = WAVE,
    on_progress: Callable[[DrainProgress], None] | None = None,
    service: Executes | None = None,
) -> DrainReport:
    """Answers everything in a batch. `provenance` says what made its videos, such as engine and precision.

    A `service` gets the leases first; `generator` makes what it leaves, and everything from when it is gone.

    A request that cannot be answered fails alone, after `StoreLimits.max_attempts` tries if its fault may pass. Up to
    `wave` requests are leased at a time. `on_progress` is called from several threads, about twice a second.
    A store that is away for less than `lease_s` is waited for. Raises StoreConflict while another drains the batch,
    LeaseLost if another took it over; whatever else ends it, the batch is given back first.
    """
    if encode is None:
        from videogen.media.mp4 import encode_mp4 as encode  # PyAV is heavy
    every_s = min(lease_s / BEATS_PER_LEASE, SLOWEST_BEAT_S)
    beat = Heartbeat(store, batch_id, holder, every_s)
    work = _Drain(store, batch_id, generator, holder, provenance, encode, lease_s, wave, on_progress, beat, service)
    claims = work.claim()
    try:
        return work.run(claims)
    except LeaseLost:
        raise
    except BaseException as error:
        logger.warning("the drain of batch %s ended early: %s", batch_id, error)
        store.give_back(batch_id, f"the drain ended early: {type(error).__name__}: {error}", holder)
        raise


@dataclass(slots=True)
class _Drain:
    store: Store
    batch_id: str
    generator: Generates
    holder: str
    provenance: Mapping[str, Json]
    encode: Encode
    lease_s: float
    wave: int
    on_progress: Callable[[DrainProgress], None] | None
    beat: Heartbeat
    service: Executes | None
    watch: Stopwatch = field(default_factory=Stopwatch)
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(UNPUBLISHED))
    pending: list[Future[None]] = field(default_factory=list)
    published: dict[str, VideoRecord] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    streams: dict[str, float] = field(default_factory=lambda: {"text": 0.0, "denoise": 0.0, "decode": 0.0})
    by_service: int = 0
    service_gone: str | None = None
    total: int = 0
    told_at: float = 0.0

    def claim(self) -> list[Claim]:
        with self.watch.stage("lease"):
            return self._outlasting(lambda: self.store.claim(self.batch_id, self.holder, self.lease_s, self.wave))

    def _outlasting(self, call: Callable[[], T]) -> T:
        return outlasting(call, self.lease_s)

    def run(self, claims: list[Claim]) -> DrainReport:
        live = [r for r in self._outlasting(lambda: self.store.batch_requests(self.batch_id)) if r.is_live]
        self.total = len({record.generation for record in live})
        self.beat.on_beat = self._tell
        with ThreadPoolExecutor(1, thread_name_prefix="videogen-publish") as publisher, self.beat:
            try:
                claims = claims or self._claim_rested()
                while claims:
                    self.beat.take(claims)
                    left = self._hand_over(claims, self.service) if self.service else claims
                    if left:
                        self._generate(left, publisher)
                    claims = self._next_claims()
            except BaseException:
                publisher.shutdown(cancel_futures=True)
                self.store.release(self.beat.in_hand())
                raise
        with self.watch.stage("lease"):
            self._outlasting(self._finish)
        self._tell(0.0)
        return self._report()

    def _finish(self) -> None:
        if self.store.batch(self.batch_id).state == "running":  # a batch that was drained before stays as it is
            self.store.finish_batch(self.batch_id, self.holder)

    def _next_claims(self) -> list[Claim]:
        with self.watch.stage("lease"):
            self._outlasting(lambda: self.store.renew_batch(self.batch_id, self.holder))
        claims = self.claim()
        if not claims:
            self._wait()  # what fails there may be there to claim again
            claims = self._claim_rested()
        if any(claim.attempt > 1 for claim in claims):
            self._wait()  # it may be what killed its last holder: nothing else shall be under way
        return claims

    def _claim_rested(self) -> list[Claim]:
        """Claims what is left once it has rested after a failed attempt; asking keeps the right to the batch."""
        while not (claims := self.claim()):
            rest = self._outlasting(lambda: self.store.claimable_in(self.batch_id))
            if rest is None:
                break
            time.sleep(min(rest, self.beat.every_s))
        return claims

    def _wait(self) -> None:
        for future in self.pending:
            future.result()
        self.pending.clear()

    def _hand_over(self, claims: list[Claim], service: Executes) -> list[Claim]:
        """Lets the service answer the claims; gives those that are still to be made."""
        left = {claim.generation: claim for claim in claims}
        try:
            for news in self._each("service", service.execute(claims)):
                self._heard(news, left)
        except ServiceAway as error:
            logger.warning("%s; this run makes the rest itself", error)
            self.service, self.service_gone = None, str(error)
        if left:
            self._outlasting(self.beat.beat)  # what was published or is not wanted any more leaves the hand
        for claim in [claim for claim in left.values() if not self.beat.is_in_hand(claim)]:
            del left[claim.generation]
            self._look_for_video(claim)
        return list(left.values())

    def _heard(self, news: News, left: dict[str, Claim]) -> None:
        """What becomes of one of the claims that are `left`."""
        if (claim := left.get(news.generation)) is None:
            return
        match news:
            case Executing():
                self._step([claim.request], news.progress)
            case Executed():
                del left[news.generation]
                self._answered(claim, news.digest)
            case ExecuteFailed(code=code) if code != HANDED_BACK:
                del left[news.generation]
                self._fail(claim, GenerationFailed(news.message), news.retry)
            case ExecuteFailed():
                logger.info("request %s was handed back: %s", claim.request.id, news.message)

    def _answered(self, claim: Claim, digest: str) -> None:
        self.beat.drop(claim)
        self.published[claim.request.id] = self._outlasting(lambda: self.store.video(digest, claim.generation))
        self.by_service += 1
        self._tell(0.0)

    def _look_for_video(self, claim: Claim) -> None:
        """The service may have published what it could not tell of any more."""
        digest = self._outlasting(lambda: self.store.request(claim.request.id)).video
        if digest is not None:
            self._answered(claim, digest)
            self.by_service -= self.published[claim.request.id].provenance.get("holder") != self.holder

    def _generate(self, claims: list[Claim], publisher: ThreadPoolExecutor) -> None:
        by_request = {claim.request.id: claim for claim in claims}
        outcomes = self.generator.generate([claim.request for claim in claims], self._step)
        for outcome in self._each("generate", outcomes):
            claim = by_request.pop(outcome.request.id)
            if isinstance(outcome, Failure):
                self._fail(claim, outcome.error)
            else:
                self.room.acquire()
                self.pending.append(publisher.submit(self._publish, claim, outcome))
            for future in [future for future in self.pending if future.done()]:
                self.pending.remove(future)
                future.result()
        for claim in by_request.values():
            self._fail(claim, GenerationFailed("the generator gave neither a video nor an error"))

    def _each(self, stage: str, outcomes: Iterator[T]) -> Iterator[T]:
        """The same, the waits for each timed as `stage`."""
        try:
            while True:
                with self.watch.stage(stage):
                    outcome = next(outcomes, None)
                if outcome is None:
                    return
                yield outcome
        finally:
            if isinstance(outcomes, Generator):
                outcomes.close()  # ends the work that is under way, when this drain ends early

    def _step(self, requests: "Sequence[AcceptedRequest]", share: float) -> None:
        for request in requests:
            self.beat.report(request.id, share)
        self._tell()

    def _publish(self, claim: Claim, clip: "Clip") -> None:
        try:
            if not self.beat.is_in_hand(claim):
                return
            try:
                with self.watch.stage("mp4"):
                    mp4 = self.encode(clip.frames, claim.request.request.fps or 1)
            except Exception as error:  # whatever it is, it is one clip's fault and must not end the others
                self._fail(claim, error)
                return
            with self.watch.stage("publish"):
                self.beat.drop(claim)
                self._store(claim, clip, mp4)
        finally:
            self.room.release()

    def _store(self, claim: Claim, clip: "Clip", mp4: bytes) -> None:
        try:
            facts = self._facts(claim, clip)
            video = self._outlasting(lambda: self.store.publish(claim, mp4, facts))
        except LeaseLost as error:
            self.beat.lost.add(claim.request.id)
            logger.warning("a video came too late: %s", error)
            return
        self.published[claim.request.id] = video
        for name in self.streams:
            self.streams[name] += getattr(clip.timings, name)
        self._tell(0.0)

    def _facts(self, claim: Claim, clip: "Clip") -> dict[str, Json]:
        return {
            **self.provenance,
            **claim.facts(),
            "batch": self.batch_id,
            "holder": self.holder,
            "seconds": {name: getattr(clip.timings, name) for name in self.streams},
        }

    def _fail(self, claim: Claim, error: Exception, retry: bool = True) -> None:
        if not self.beat.is_in_hand(claim):
            return
        with self.watch.stage("fail"):
            self.beat.drop(claim)
            text = str(error) if isinstance(error, VideogenError) else f"{type(error).__name__}: {error}"
            try:
                again = retry and not isinstance(error, InvalidRequest)
                self._outlasting(lambda: self.store.fail(claim, text, again))
            except LeaseLost as lost:
                self.beat.lost.add(claim.request.id)
                logger.warning("a failure came too late: %s", lost)
                return
        if self._outlasting(lambda: self.store.request(claim.request.id)).state == "failed":
            self.failed[claim.request.id] = text
        self._tell(0.0)

    def _tell(self, at_most_every_s: float = TELL_S) -> None:
        now = self.watch.wall()
        if self.on_progress is None or now - self.told_at < at_most_every_s:
            return
        self.told_at = now
        running = self.beat.progress()
        told = DrainProgress(self.batch_id, self.total, len(self.published), len(self.failed), running, now)
        try:
            self.on_progress(told)
        except Exception:  # whoever listens must not cost anybody a video or a lease
            logger.warning("the progress of batch %s could not be told", self.batch_id, exc_info=True)

    def _report(self) -> DrainReport:
        wall = self.watch.wall()
        return DrainReport(
            batch_id=self.batch_id,
            published=self.published,
            failed=self.failed,
            # A beat may come between the end of a lease and the news that its video is published.
            lost=len(self.beat.lost - self.published.keys()),
            unwanted=len(self.beat.unwanted - self.published.keys()),
            seconds=wall,
            overhead_s=wall - self.watch.covered(("service", "generate", "mp4")),
            stages=self.watch.seconds() | self.streams,
            by_service=self.by_service,
            service_gone=self.service_gone,
        )
