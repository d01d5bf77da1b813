"""What a denoiser call costs, T(B), over batch sizes and parallel streams; and which batch pays."""

import math
from bisect import bisect_left
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

NEAR = 1.003
"""Of two batch sizes whose rates are this close, the smaller is as good."""
BUSY_NEAR = 1.05
"""The same of what was measured while something else ran, which tells less apart."""


class Costs(Protocol):
    """Seconds, by batch key, batch size and the number of streams that run at once."""

    def step(self, key: Hashable, batch: int, streams: int) -> float:
        """One denoiser call."""
        ...

    def rest(self, key: Hashable, batch: int, streams: int) -> float:
        """What a batch takes besides its steps: text, decoding, MP4."""
        ...

    def batch_max(self, key: Hashable) -> int: ...

    def near(self, key: Hashable) -> float:
        """Of two batch sizes whose rates are this close, the smaller is as good."""
        ...


@dataclass(frozen=True, slots=True)
class Affine:
    """A device whose call takes `fixed` + `each`·B seconds and whose streams share it evenly."""

    fixed: float
    each: float
    rest_s: float = 0.0
    largest: int = 16

    def step(self, key: Hashable, batch: int, streams: int) -> float:
        return streams * (self.fixed + self.each * batch)

    def rest(self, key: Hashable, batch: int, streams: int) -> float:
        return streams * batch * self.rest_s

    def batch_max(self, key: Hashable) -> int:
        return self.largest

    def near(self, key: Hashable) -> float:
        return NEAR


@dataclass(frozen=True, slots=True)
class Table:
    """Measured seconds by (batch, streams). `step` needs at least one; rates within `near` are not told apart."""

    step: Mapping[tuple[int, int], float]
    rest: Mapping[tuple[int, int], float] = field(default_factory=dict)
    near: float = NEAR


class Profiled:
    """T(B) as it was measured: straight lines between measured batches, in proportion beyond the largest.

    A number of streams that was not measured costs what the next smaller one does, in proportion. `tables` may gain
    and lose keys while in use; a key without a table is a KeyError.
    """

    def __init__(self, tables: Mapping[Hashable, Table]) -> None:
        self.tables = tables

    def step(self, key: Hashable, batch: int, streams: int) -> float:
        return _read(self.tables[key].step, batch, streams)

    def rest(self, key: Hashable, batch: int, streams: int) -> float:
        return _read(self.tables[key].rest, batch, streams)

    def batch_max(self, key: Hashable) -> int:
        return max(batch for batch, _ in self.tables[key].step)

    def near(self, key: Hashable) -> float:
        return self.tables[key].near


def _read(table: Mapping[tuple[int, int], float], batch: int, streams: int) -> float:
    if (found := table.get((batch, streams))) is not None:
        return found
    if not table:
        return 0.0
    counts = sorted({count for _, count in table})
    measured = max((count for count in counts if count <= streams), default=counts[0])
    scale = max(1.0, streams / measured)
    batches = sorted(size for size, count in table if count == measured)
    above = bisect_left(batches, batch)
    if above == len(batches):
        return scale * table[batches[-1], measured] * batch / batches[-1]
    high = table[batches[above], measured]
    if batches[above] == batch or above == 0:
        return scale * high
    low = table[batches[above - 1], measured]
    part = (batch - batches[above - 1]) / (batches[above] - batches[above - 1])
    return scale * (low + part * (high - low))


class Corrected:
    """Costs corrected by what steps, and the rest, really take.

    A step's correction is a factor for each key, batch and number of streams: a moving average of real over expected,
    in which the first steps count most and later ones by `gain`, each as no more than twice or half of what was
    believed, so that a stall moves it little. It stays within 1/`bound` and `bound`. What was not seen yet is corrected
    as the key's steps in general are. The rest has one such factor for each key: it is less than was measured where a
    graph that makes all steps decodes as well, whose time is then all the steps'.
    """

    def __init__(self, costs: Costs, *, gain: float = 0.1, bound: float = 10.0) -> None:
        self.costs, self._gain, self._bound = costs, gain, bound
        self._factors: dict[Hashable, dict[tuple[int, int] | None, tuple[float, int]]] = {}
        self._rests: dict[Hashable, tuple[float, int]] = {}

    def factor(self, key: Hashable, batch: int, streams: int) -> float:
        """Real over expected seconds of a step."""
        seen = self._factors.get(key)
        if seen is None:
            return 1.0
        return (seen.get((batch, streams)) or seen[None])[0]

    def step(self, key: Hashable, batch: int, streams: int) -> float:
        return self.costs.step(key, batch, streams) * self.factor(key, batch, streams)

    def rest(self, key: Hashable, batch: int, streams: int) -> float:
        return self.costs.rest(key, batch, streams) * self._rests.get(key, (1.0, 0))[0]

    def batch_max(self, key: Hashable) -> int:
        return self.costs.batch_max(key)

    def near(self, key: Hashable) -> float:
        return self.costs.near(key)

    def observe(self, key: Hashable, batch: int, streams: int, seconds: float) -> None:
        """A step took so long. What is not a positive number of seconds is passed over."""
        expected = self.costs.step(key, batch, streams)
        if not (0 < seconds < math.inf and expected > 0):
            return
        believed = self.factor(key, batch, streams)
        seen = self._factors.setdefault(key, {})
        for place in (None, (batch, streams)):
            seen[place] = self._moved(seen.get(place, (believed, 0)), seconds / expected)

    def observe_rest(self, key: Hashable, batch: int, streams: int, seconds: float) -> None:
        """All but the steps of a batch took so long. What is not a positive number of seconds is passed over."""
        expected = self.costs.rest(key, batch, streams)
        if 0 < seconds < math.inf and expected > 0:
            self._rests[key] = self._moved(self._rests.get(key, (1.0, 0)), seconds / expected)

    def _moved(self, seen: tuple[float, int], real: float) -> tuple[float, int]:
        factor, count = seen
        factor += max(self._gain, 1 / (count + 2)) * (min(max(real, factor / 2), 2 * factor) - factor)
        return min(max(factor, 1 / self._bound), self._bound), count + 1

    def forget(self, key: Hashable) -> None:
        """The key is no longer served."""
        self._factors.pop(key, None)
        self._rests.pop(key, None)


def batch_that_pays(
    costs: Costs, key: Hashable, waiting: int, *, steps: int, busy: int = 0, streams: int = 1, most: int
) -> int:
    """The smallest batch, up to `most`, for the next stream that serves `waiting` jobs as fast as any.

    Jobs take so many `steps`, and the rest: where that is long and as long for each of a batch, batches spare little.
    `busy` of the device's `streams` run already. Smaller batches leave jobs to the streams that are free, so on a
    device whose streams scale better than its batches the answer is 1.
    """
    best, best_rate, near = 1, 0.0, costs.near(key)
    for batch in range(1, min(waiting, most) + 1):
        used = min(streams, busy + math.ceil(waiting / batch))
        served = busy * batch + min(waiting, (used - busy) * batch)
        rate = served / (steps * costs.step(key, batch, used) + costs.rest(key, batch, used))
        if rate > near * best_rate:
            best, best_rate = batch, rate
    return best
