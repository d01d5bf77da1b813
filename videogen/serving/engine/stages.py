"""Text, decoding and MP4 around the steps: each has a queue and a thread that stands back for steps, or neither."""

import heapq
import itertools
import os
import threading
from collections.abc import Callable, Hashable, Sequence

from videogen.scheduling.job import CLASSES
from videogen.serving.engine.lives import Live


class Stage:
    """Takes what belongs together, the most urgent first, up to `most` at once.

    Beyond `room` whoever brings more does the work itself, so that nothing piles up; None is room for all, and with 0
    there is no thread.
    """

    def __init__(
        self, name: str, work: Callable[[list[Live]], None], tell: Callable[[str, Sequence[Live]], None],
        *, together: Callable[[Live], Hashable], most: int, room: int | None, nice: int,
    ) -> None:  # fmt: skip
        self.name, self._work, self._tell = name, work, tell
        self._together, self._most, self._room, self._nice = together, most, room, nice
        self._order, self._lines = itertools.count(), []
        self._changed = threading.Condition()
        if room != 0:
            threading.Thread(target=self._serve, name=f"videogen-{name}", daemon=True).start()

    def __len__(self) -> int:
        return len(self._lines)

    def put(self, lives: Sequence[Live]) -> None:
        if not lives:
            return
        with self._changed:
            fits = self._room is None or len(self._lines) + len(lives) <= self._room
            if fits:
                for live in lives:
                    heapq.heappush(self._lines, (CLASSES.index(live.job.priority), next(self._order), live))
                self._changed.notify()
        if not fits:
            for first in range(0, len(lives), self._most):
                self._work(list(lives[first : first + self._most]))

    def _serve(self) -> None:
        stand_back(self._nice)
        while True:
            with self._changed:
                if not self._lines:
                    self._tell(self.name, ())
                self._changed.wait_for(lambda: self._lines)
                lives = self._take()
            self._tell(self.name, lives)
            self._work(lives)

    def _take(self) -> list[Live]:
        entries = [heapq.heappop(self._lines)]
        kind = self._together(entries[0][2])
        while self._lines and len(entries) < self._most and self._together(self._lines[0][2]) == kind:
            entries.append(heapq.heappop(self._lines))
        return [live for _, _, live in entries]


def one_by_one(
    lives: Sequence[Live], work: Callable[[Sequence[Live]], None], failed: Callable[[Live, Exception], None]
) -> None:
    """Does the work for all at once; if that fails, for each alone, so that who fails, fails alone."""
    try:
        work(lives)
    except Exception as error:  # whatever it is, it must not cost the others their video
        if len(lives) == 1:
            failed(lives[0], error)
            return
        for live in lives:
            one_by_one([live], work, failed)


def stand_back(nice: int) -> None:
    """Gives this thread a lower priority, on systems where threads have one of their own."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + nice)
