"""What the demo is at while a step takes its time: a line that moves on a terminal, now and then a line elsewhere."""

import threading
import time
from types import TracebackType

from rich.console import Console
from rich.markup import escape

TICK_SECONDS = 1.0
QUIET_SECONDS = 15.0


class Activity:
    """Says what goes on, and for how many seconds, until the block ends; `tell` replaces both by words of its own."""

    def __init__(self, console: Console, what: str, quiet_s: float = QUIET_SECONDS) -> None:
        self._console, self._what, self._quiet_s = console, what, quiet_s
        self._status, self._words, self._start = console.status(""), "", time.monotonic()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def __enter__(self) -> "Activity":
        self._start = time.monotonic()
        self._show()
        if self._console.is_terminal:
            self._status.start()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        self._thread.join()
        self._status.stop()

    def tell(self, words: str) -> None:
        self._words = words

    def _go_on(self) -> None:
        wait = min(TICK_SECONDS, self._quiet_s) if self._console.is_terminal else self._quiet_s
        while not self._end.wait(wait):
            self._show()
            if not self._console.is_terminal:
                self._console.print(f"   … {self._now()}", markup=False)

    def _show(self) -> None:
        self._status.update(f"   {escape(self._now())}")

    def _now(self) -> str:
        return self._words or f"{self._what}, {time.monotonic() - self._start:.0f} s"
