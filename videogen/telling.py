"""Lines for people about long work."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

Tell = Callable[[str], None]
"""Takes a line for people."""
Count = Callable[[int, int], object]
"""Called with how much is done, and of how much."""


def uncounted(done: int, total: int) -> None:
    """A count that nobody is told of."""


class Part(Protocol):
    """Entered around a part of long work, to tell of it."""

    def __call__(self, what: str, /, *, if_long: bool = False) -> AbstractContextManager[Count]:
        """Gives what its count is told.

        `if_long`: it mostly takes no time, and is worth a word only where it does.
        """
        ...


def untold(what: str, /, *, if_long: bool = False) -> AbstractContextManager[Count]:
    """A part that nobody is told of."""
    return nullcontext(uncounted)


class Telling:
    """Long work told part by part: each at its end with its seconds, and now and then while it goes on.

    `tell` gets lines for people, some of them from other threads.
    """

    SOON_S, EVERY_S = 3.0, 10.0
    """A part that takes longer than the first is told while it goes on, then at intervals of the second."""

    def __init__(self, tell: Tell = lambda text: None) -> None:
        self.tell = tell

    @contextmanager
    def part(self, what: str, /, *, if_long: bool = False) -> Generator[Count]:
        """Entered around the work; gives what may be called with how much of it is done, and of how much.

        `if_long`: told only where it is long. What fails is told by its error alone.
        """
        started, over, counted = time.monotonic(), threading.Event(), deque[tuple[int, int]](maxlen=1)
        reminder = threading.Thread(
            target=self._remind, args=(what, started, over, counted), name="telling", daemon=True
        )
        reminder.start()
        try:
            yield lambda done, total: counted.append((done, total))
        finally:
            over.set()
            reminder.join()  # nothing of a part is told behind its end
        seconds = time.monotonic() - started
        if not if_long or seconds > self.SOON_S:
            self.tell(f"{what}: done in {seconds:.1f} s")

    def _remind(self, what: str, started: float, over: threading.Event, counted: deque[tuple[int, int]]) -> None:
        pause = self.SOON_S
        while not over.wait(pause):
            seconds, how_far = time.monotonic() - started, ""
            if counted:
                done, total = counted[-1]
                how_far = f", {done} of {total}, about {seconds / done * (total - done):.0f} s left"
            self.tell(f"{what}: {seconds:.0f} s so far{how_far}")
            pause = self.EVERY_S
