"""Store calls that callers ask for: a bounded number at once, and none while the store is away."""

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from videogen.errors import Draining, StoreBusy, StoreUnavailable

MOST = 512
"""Calls of all callers that may wait for the store at once."""


class BoundedCalls(Executor):
    """Hands calls on to `threads`, which whoever makes videos uses beside it, unbounded.

    `away` says why the store cannot be asked, None while it can: StoreUnavailable is then raised at once, for what is
    asked now, and as soon as a thread is free for what waits. Beyond `most` calls, StoreBusy is, and Draining once
    `threads` were shut down: a call that outlasts the service is told as one that came too late.
    """

    def __init__(self, threads: Executor, away: Callable[[], str | None], most: int = MOST) -> None:
        self.threads, self.away, self.most = threads, away, most
        self._count, self._lock = 0, threading.Lock()

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self._check()
        with self._lock:
            if self._count >= self.most:
                raise StoreBusy(f"{self._count:,} calls wait for the store; allowed: {self.most:,}")
            self._count += 1
        try:
            future = self.threads.submit(self._run, work, args, kwargs)
        except RuntimeError as error:
            self._ended()
            if "shutdown" not in str(error):  # as the standard library words it; a thread may not start either
                raise
            raise Draining("the service has ended; another replica answers") from error
        future.add_done_callback(self._ended)
        return future

    def _run(self, work: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._check()
        return work(*args, **kwargs)

    def _check(self) -> None:
        if (away := self.away()) is not None:
            raise StoreUnavailable(away)

    def _ended(self, _: Future[Any] | None = None) -> None:
        with self._lock:
            self._count -= 1
