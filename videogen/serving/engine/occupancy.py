"""Who is in a call on the device, and whether anybody may begin one."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager


class Occupancy:
    """Of one device, under the lock that `changed` has. `calls`: since when streams, by number, and stages are in one.

    No step begins while it is `paused`, and no call while it is `yielded` to somebody else who holds the device.
    """

    def __init__(self, changed: threading.Condition) -> None:
        self._changed = changed
        self.calls: dict[int | str, float] = {}
        self.paused = self.yielded = False

    @property
    def may_step(self) -> bool:
        return not self.paused and not self.yielded

    def pause(self, paused: bool) -> None:
        with self._changed:
            self.paused = paused
            self._changed.notify_all()

    def hold_back(self, yielded: bool) -> None:
        """Waits until the calls that are under way have ended."""
        with self._changed:
            self.yielded = yielded
            self._changed.notify_all()
            self._changed.wait_for(lambda: not yielded or not self.calls)

    def enter(self, stream: int) -> None:
        """Its call begins; under the lock."""
        self.calls[stream] = time.monotonic()

    def leave(self, stream: int, now: float) -> float:
        """Its call ended, after so many seconds; under the lock, and whoever calls notifies."""
        return now - self.calls.pop(stream)

    @contextmanager
    def call(self) -> Generator[None]:
        """A stage's call: it waits while somebody else holds the device."""
        name = threading.current_thread().name
        with self._changed:
            self._changed.wait_for(lambda: not self.yielded)
            self.calls[name] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self.calls[name]
                self._changed.notify_all()
