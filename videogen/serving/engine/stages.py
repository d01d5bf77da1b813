"""Text, decoding and MP4 around the steps: each has a bounded queue and a thread that stands back for steps."""

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from videogen.errors import InvalidRequest, VideogenError
from videogen.scheduling.job import CLASSES, Job
from videogen.serving.engine.messages import EngineJob, Failed

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest
    from videogen.serving.engine.versions import Version

MEMORY_SIGNS = ("out of memory", "bad_alloc", "failed to allocate")


@dataclass(slots=True, eq=False)
class Forking:
    """What a job is until it begins that is to take over the latents of `source`, with `fields` changed.

    `call` is answered once it has them.
    """

    call: int
    source: "Live"
    fields: Mapping[str, str | float]
    is_answered: bool = False


@dataclass(slots=True, eq=False)
class Live:
    """A job on its way through text, steps, decoding and MP4; `seconds` of each, `batches` it stepped in.

    `forks` wait for its next boundary, to take over its latents.
    """

    job: EngineJob
    accepted: "AcceptedRequest"
    version: "Version"
    key: Hashable
    received: float
    deadline: float | None
    generation: Any = None
    scheduled: Job | None = None
    frames: Any = None
    cancelled: bool = False
    fused: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    batches: dict[int, int] = field(default_factory=dict)
    forking: Forking | None = None
    forks: "list[Live]" = field(default_factory=list)

    @property
    def step(self) -> int:
        """How many steps it has taken."""
        return self.generation.step_index if self.generation is not None else 0

    def charge(self, other: "Live") -> None:
        """What the other one took was for this one."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        for size, steps in other.batches.items():
            self.batches[size] = self.batches.get(size, 0) + steps

    def facts(self, streams: int) -> dict[str, Any]:
        """What is told of how its video was made. A stream's second is a share of the device's."""
        on_device = sum(self.seconds.get(stage, 0.0) for stage in ("text", "denoise", "decode"))
        made = sum(self.seconds.values())
        return {
            **self.version.facts,
            "seconds": self.seconds,
            "waited_s": max(0.0, time.monotonic() - self.received - made),
            "device_seconds": on_device / streams,
            "batches": {str(size): steps for size, steps in self.batches.items()},
            "fused": self.fused,
        }

    def spent(self, stage: str, seconds: float, among: int) -> None:
        """Its share of `seconds` that it spent in a batch of `among`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds / among


class Stage:
    """Takes what belongs together, the most urgent first, up to `most` at once.

    Beyond `room` whoever brings more does the work itself, so that nothing piles up; None is room for all.
    """

    def __init__(
        self, name: str, work: Callable[[list[Live]], None], tell: Callable[[str, Sequence[Live]], None],
        *, together: Callable[[Live], Hashable], most: int, room: int | None, nice: int,
    ) -> None:  # fmt: skip
        self.name, self._work, self._tell = name, work, tell
        self._together, self._most, self._room, self._nice = together, most, room, nice
        self._order, self._lines = itertools.count(), []
        self._changed = threading.Condition()
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


def failure(job_id: str, error: Exception) -> Failed:
    """What a job that failed with `error` is answered."""
    text = str(error) if isinstance(error, VideogenError) else f"{type(error).__name__}: {error}"
    if isinstance(error, InvalidRequest):
        return Failed(job_id, text, "invalid_request", retry=False)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in MEMORY_SIGNS):
        return Failed(job_id, text, "out_of_memory", retry=True)
    return Failed(job_id, text, "generation_failed", retry=True)


def stand_back(nice: int) -> None:
    """Gives this thread a lower priority, on systems where threads have one of their own."""
    if hasattr(os, "setpriority") and os.uname().sysname == "Linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + nice)
