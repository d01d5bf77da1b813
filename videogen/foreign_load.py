"""How much of this machine's processors others took while something was measured."""

import time
from dataclasses import dataclass, field

import psutil

MOST = 0.25
"""Of all processors: from there on a measurement tells of the others as much as of itself."""


def _busy() -> float:
    times = psutil.cpu_times()
    return sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def _own() -> float:
    times = psutil.Process().cpu_times()
    return times.user + times.system


@dataclass(frozen=True, slots=True)
class ForeignLoad:
    """Since this was made: what processes other than this one used."""

    started: float = field(default_factory=time.monotonic)
    busy: float = field(default_factory=_busy)
    own: float = field(default_factory=_own)

    def share(self) -> float:
        """Of all processors' time, in [0, 1]."""
        whole = (time.monotonic() - self.started) * (psutil.cpu_count() or 1)
        foreign = (_busy() - self.busy) - (_own() - self.own)
        return min(1.0, max(0.0, foreign / whole)) if whole > 0 else 0.0
