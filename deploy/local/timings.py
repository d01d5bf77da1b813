"""Wall time by phase and peak memory of this process with everything it started."""

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

SAMPLE_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Phase:
    """One part of the story. Memory is resident bytes, summed over processes, so shared pages count once for each."""

    name: str
    seconds: float
    peak_memory: int
    reused: bool


class Timings:
    """Collects phases; `with timings.phase(...)` around each, `with timings:` around all."""

    def __init__(self) -> None:
        self.phases: list[Phase] = []
        self._peak, self._stop = 0, threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> "Timings":
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._sampler.join()

    @contextlib.contextmanager
    def phase(self, name: str) -> Generator[dict[str, bool]]:
        """Times the block; the block sets `reused` in what it is given when it found its work already done."""
        self._peak, found, start = tree_memory(), {"reused": False}, time.monotonic()
        yield found
        self._peak = max(self._peak, tree_memory())
        self.phases.append(Phase(name, time.monotonic() - start, self._peak, found["reused"]))

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            self._peak = max(self._peak, tree_memory())

    def write(self, path: Path) -> None:
        """Adds this telling's phases, with the whole beside them, to those of the tellings before it."""
        whole = {"seconds": sum(p.seconds for p in self.phases), "peak_memory": max(p.peak_memory for p in self.phases)}
        told = [*read_tellings(path), whole | {"phases": [dataclasses.asdict(phase) for phase in self.phases]}]
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}")
        scratch.write_text(json.dumps({"tellings": told}, indent=2) + "\n")
        scratch.replace(path)


def read_tellings(path: Path) -> list[dict[str, Any]]:
    """What every telling took, the first one first; none where nothing was told yet."""
    if not path.exists():
        return []
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored.get("tellings", [])


def tree_memory() -> int:
    """Resident bytes of this process and all below it, at this moment."""
    this = psutil.Process()
    return sum(_resident(process) for process in (this, *this.children(recursive=True)))


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return process.memory_info().rss
    return 0  # it ended between the listing and the look
