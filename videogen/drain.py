"""From a sealed batch to published videos: claim, generate, encode, publish, until nothing of the batch is left.

One thread generates; another encodes and publishes what is there meanwhile; a third keeps the leases alive. If the
process dies, the leases run out, and whoever drains the batch's requests next goes on with what is left.
"""

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

from videogen.errors import GenerationFailed, InvalidRequest, LeaseLost, VideogenError
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

    `stages`: seconds in "lease", "generate" (of which "text", "denoise" and "decode" per stream), "mp4", "publish" and
    "fail", summed over threads. `overhead_s`: wall time in which neither a video was generated nor an MP4 encoded.
    """

    batch_id: str
    published: Mapping[str, VideoRecord]
    failed: Mapping[str, str]
    lost: int
    unwanted: int
    seconds: float
    overhead_s: float
    stages: Mapping[str, float]

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
) -> DrainReport:
    """Answers everything in a batch. `provenance` says what made its videos, such as engine and precision.

    A request that cannot be answered fails alone, after `StoreLimits.max_attempts` tries if its fault may pass. Up to
    `wave` requests are leased at a time. `on_progress` is called from several threads, about twice a second.
    A store that is away for less than `lease_s` is waited for. Raises StoreConflict while another drains the batch,
    LeaseLost if another took it over; whatever else ends it, the batch is given back first.
    """
    if encode is None:
        from videogen.media.mp4 import encode_mp4 as encode  # PyAV is heavy
    every_s = min(lease_s / BEATS_PER_LEASE, SLOWEST_BEAT_S)
    beat = Heartbeat(store, batch_id, holder, every_s)
    work = _Drain(store, batch_id, generator, holder, provenance, encode, lease_s, wave, on_progress, beat)
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
    watch: Stopwatch = field(default_factory=Stopwatch)
    room: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(UNPUBLISHED))
    pending: list[Future[None]] = field(default_factory=list)
    published: dict[str, VideoRecord] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    streams: dict[str, float] = field(default_factory=lambda: {"text": 0.0, "denoise": 0.0, "decode": 0.0})
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
                    self._generate(claims, publisher)
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

    def _generate(self, claims: list[Claim], publisher: ThreadPoolExecutor) -> None:
        self.beat.take(claims)
        by_request = {claim.request.id: claim for claim in claims}
        for outcome in self._outcomes([claim.request for claim in claims]):
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

    def _outcomes(self, requests: "list[AcceptedRequest]") -> "Iterator[Clip | Failure]":
        outcomes = self.generator.generate(requests, self._step)
        try:
            while True:
                with self.watch.stage("generate"):
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
            self.beat.lost += 1
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

    def _fail(self, claim: Claim, error: Exception) -> None:
        if not self.beat.is_in_hand(claim):
            return
        with self.watch.stage("fail"):
            self.beat.drop(claim)
            text = str(error) if isinstance(error, VideogenError) else f"{type(error).__name__}: {error}"
            try:
                retry = not isinstance(error, InvalidRequest)
                self._outlasting(lambda: self.store.fail(claim, text, retry))
            except LeaseLost as lost:
                self.beat.lost += 1
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
            lost=self.beat.lost,
            unwanted=self.beat.unwanted,
            seconds=wall,
            overhead_s=wall - self.watch.covered(("generate", "mp4")),
            stages=self.watch.seconds() | self.streams,
        )
