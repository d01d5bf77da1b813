"""What came of a simulation."""

import itertools
import math
from collections import Counter
from dataclasses import dataclass, field

GOOD = 3.0
"""An answer is good within so many times what it takes alone."""


@dataclass(slots=True)
class Outcome:
    """What came of one simulation. Times are seconds."""

    seconds: float
    devices: int
    arrived: int = 0
    completed: int = 0
    refused: int = 0
    still_there: int = 0
    cached: int = 0
    """Of those completed: answered from the cache."""
    joined: int = 0
    """Of those completed: answered by the generation of another request that was not done yet."""
    good: int = 0
    late: int = 0
    """Neither good nor refused, and too old to become good."""
    missed: int = 0
    """Ended by their deadline, without an answer."""
    busy_s: float = 0.0
    """Of streams, summed over devices."""
    held_s: float = 0.0
    utilisation: float = 0.0
    store_utilisation: float = 0.0
    latencies: dict[str, list[float]] = field(default_factory=dict)
    """By kind, sorted."""
    batches: Counter[int] = field(default_factory=Counter)
    """Denoiser calls by batch size."""

    @property
    def throughput(self) -> float:
        """Answers a second."""
        return self.completed / self.seconds

    @property
    def goodput(self) -> float:
        """Answers a second within `GOOD` times what they take alone."""
        return self.good / self.seconds

    @property
    def good_share(self) -> float:
        decided = self.good + self.late + self.refused + self.missed
        return self.good / decided if decided else 1.0

    @property
    def device_s_per_video(self) -> float:
        made = self.completed - self.cached - self.joined
        return self.busy_s / made if made else math.nan

    @property
    def mean_batch(self) -> float:
        calls = self.batches.total()
        return sum(size * count for size, count in self.batches.items()) / calls if calls else math.nan

    def percentile(self, share: float, kind: str | None = None) -> float:
        """The latency that `share` of those completed did not exceed; NaN if none completed."""
        taken = self.latencies.get(kind, []) if kind else sorted(itertools.chain(*self.latencies.values()))
        return taken[max(0, math.ceil(share * len(taken)) - 1)] if taken else math.nan

    @property
    def limit(self) -> str:
        """What is short: "store"; "devices", if more than one in ten is late, missed or refused; or "load"."""
        if self.store_utilisation > 0.98:
            return "store"
        return "devices" if self.good_share < 0.9 else "load"
