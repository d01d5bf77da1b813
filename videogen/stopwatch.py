"""Where the wall time of work on several threads went: stages add up, and what they cover is not counted twice."""

import threading
import time
from collections import defaultdict
from collections.abc import Generator, Iterable
from contextlib import contextmanager


class Stopwatch:
    """Times stages by name, from any thread."""

    def __init__(self) -> None:
        self._spans: dict[str, list[tuple[float, float]]] = defaultdict(list)
        self._lock, self._started = threading.Lock(), time.perf_counter()

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """Times the block, whether it ends well or not."""
        start = time.perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self._spans[name].append((start, time.perf_counter()))

    def wall(self) -> float:
        """Seconds since this stopwatch was made."""
        return time.perf_counter() - self._started

    def seconds(self) -> dict[str, float]:
        """Seconds per stage, over all threads."""
        with self._lock:
            return {name: sum(end - start for start, end in spans) for name, spans in self._spans.items()}

    def covered(self, names: Iterable[str]) -> float:
        """Seconds of wall time in which at least one of the stages was going on."""
        with self._lock:
            spans = sorted(span for name in names for span in self._spans.get(name, ()))
        total, until = 0.0, 0.0
        for start, end in spans:
            total += max(0.0, end - max(start, until))
            until = max(until, end)
        return total
