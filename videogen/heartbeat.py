"""Keeps leases alive from a thread of its own while their work goes on elsewhere."""

import logging
import threading
from collections.abc import Callable, Sequence
from types import TracebackType

from videogen.errors import LeaseLost, StoreUnavailable
from videogen.store.records import Claim
from videogen.store.store import Store

logger = logging.getLogger(__name__)


class Heartbeat:
    """Renews the leases in hand and the right to their batch every `every_s`, and tells how far they are.

    A lease that is lost, or whose video nobody waits for any more, is dropped from the hand; `is_in_hand` says so to
    those who work on it, `lost` and `unwanted` name its request. `on_beat` is called after each beat.
    """

    def __init__(
        self, store: Store, batch_id: str, holder: str, every_s: float, on_beat: Callable[[], None] | None = None
    ) -> None:
        self.store, self.batch_id, self.holder = store, batch_id, holder
        self.every_s, self.on_beat = every_s, on_beat
        self.lost: set[str] = set()
        self.unwanted: set[str] = set()
        self.has_batch = True
        self._claims: dict[str, Claim] = {}
        self._progress: dict[str, float] = {}
        self._lock, self._beating, self._stop = threading.Lock(), threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="videogen-heartbeat", daemon=True)

    def __enter__(self) -> "Heartbeat":
        self._thread.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def take(self, claims: Sequence[Claim]) -> None:
        """From now on these are kept alive."""
        with self._lock:
            self._claims |= {claim.request.id: claim for claim in claims}

    def drop(self, claim: Claim) -> None:
        """This one is not kept alive any more. Dropping it twice is no error."""
        with self._lock:
            self._claims.pop(claim.request.id, None)
            self._progress.pop(claim.request.id, None)

    def is_in_hand(self, claim: Claim) -> bool:
        with self._lock:
            held = self._claims.get(claim.request.id)
            return held is not None and held.token == claim.token

    def in_hand(self) -> list[Claim]:
        with self._lock:
            return list(self._claims.values())

    def report(self, request_id: str, progress: float) -> None:
        """Remembers how far a request is, in [0, 1], for the next beat."""
        with self._lock:
            self._progress[request_id] = progress

    def progress(self) -> dict[str, float]:
        """How far the requests in hand are, by request id."""
        with self._lock:
            return {request_id: self._progress.get(request_id, 0.0) for request_id in self._claims}

    def _run(self) -> None:
        while not self._stop.wait(self.every_s):
            try:
                self.beat()
            except StoreUnavailable as error:
                # The leases outlive a few missed beats. If the store stays away, whoever publishes next fails by it.
                logger.warning("the leases of batch %s could not be renewed: %s", self.batch_id, error)
            if self.on_beat is not None:
                self.on_beat()

    def beat(self) -> None:
        """Renews everything once, whichever thread asks."""
        with self._beating:
            self._beat()

    def _beat(self) -> None:
        claims, progress = self.in_hand(), self.progress()
        try:
            self.store.renew_batch(self.batch_id, self.holder)
        except LeaseLost:
            self.has_batch = False
        renewal = self.store.renew(
            claims, {c.generation: progress[c.request.id] for c in claims if c.request.id in progress}
        )
        # A claim that was published or failed while it was renewed is not lost but done.
        lost = [claim for claim in renewal.lost if self.is_in_hand(claim)]
        unwanted = [claim for claim in renewal.unwanted if self.is_in_hand(claim)]
        self.store.release(unwanted)
        for claim in (*lost, *unwanted):
            self.drop(claim)
        self.lost.update(claim.request.id for claim in lost)
        self.unwanted.update(claim.request.id for claim in unwanted)
