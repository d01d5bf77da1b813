"""How a process is told to end: SIGTERM or Ctrl-C once for a good end, once more for one at once."""

import asyncio
import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Coroutine, Generator
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAME_S = 1.0
"""What comes so soon after the first is the same wish: a terminal and what runs the command both tell of one Ctrl-C."""


class Ending:
    """One event loop's, in the main thread. `at_once` ends what the process could not leave behind."""

    def __init__(self, at_once: Callable[[], None] = lambda: None) -> None:
        self.at_once, self.asked = at_once, asyncio.Event()
        self._asked_at, self._loop = math.inf, asyncio.get_running_loop()

    @contextlib.contextmanager
    def heard(self) -> Generator[None]:
        """Takes the signals meanwhile, also while the event loop is held up by something."""
        before = {number: signal.signal(number, self._heard) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def unless_asked(self, work: Coroutine[Any, Any, T]) -> T | None:
        """What `work` gives; None if the end was asked for first: `work` is cancelled, and `at_once` called."""
        working, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                return working.result()
            working.cancel()
            self.at_once()
            await asyncio.wait({working})
            return None
        finally:
            asked.cancel()

    def _heard(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if now > self._asked_at + SAME_S:
            self.at_once()
            os._exit(128 + number)
        self._asked_at = min(self._asked_at, now)
        self._loop.call_soon_threadsafe(self.asked.set)
