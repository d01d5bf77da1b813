"""Progress of long steps, said now and then: Dagster never forgets an event, so there are few of them."""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from videogen.drain import DrainProgress

EVERY_SECONDS = 5.0
OBSERVATION_SECONDS = 10.0


@dataclass(slots=True)
class Ticker:
    """Called with how many are done; writes a line to the step's log every few seconds, and at the end."""

    log: logging.Logger
    what: str
    total: int
    every: float = EVERY_SECONDS
    start: float = field(default_factory=time.monotonic)
    _last: float = field(default_factory=time.monotonic)

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last < self.every and done < self.total:
            return
        self._last = now
        pace = (now - self.start) / max(done, 1)
        left = f", about {pace * (self.total - done):.0f} s left" if done < self.total else ""
        self.log.info("%s: %d of %d, %.2f s each%s", self.what, done, self.total, pace, left)


class DrainTicker:
    """Called by a drain, from several threads: a line and an observation of the batch every few seconds.

    An observation shows in the UI at once, while the step still runs.
    """

    def __init__(self, context: dg.AssetExecutionContext, every: float = OBSERVATION_SECONDS) -> None:
        self._context, self._every, self._lock = context, every, threading.Lock()
        self._last = time.monotonic()

    def __call__(self, progress: "DrainProgress") -> None:
        with self._lock:
            if time.monotonic() - self._last >= self._every:
                self._last = time.monotonic()
                self._tell(progress)

    def _tell(self, progress: "DrainProgress") -> None:
        done, under_way = progress.published + progress.failed, len(progress.running)
        self._context.log.info(
            "%d of %d answered, %d under way, %d failed, %.0f s",
            *(done, progress.total, under_way, progress.failed, progress.seconds),
        )
        metadata = {
            "progress/published": progress.published,
            "progress/failed": progress.failed,
            "progress/share": (done + sum(progress.running.values())) / max(progress.total, 1),
            "progress/seconds": progress.seconds,
        }
        key, partition = self._context.asset_key, self._context.partition_key
        self._context.log_event(dg.AssetObservation(key, partition=partition, metadata=metadata))
