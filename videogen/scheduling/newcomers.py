"""Newcomers: what a hold gains by those whom the forecast expects."""

import itertools
import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from videogen.scheduling.forecast import Forecast

KEEPS = 0.95
"""What older looks at what came count, against one look more."""


@dataclass(slots=True)
class _Look:
    """Who is counted that comes before `until`; `expected` of them by the forecast, while `present` waited."""

    until: float
    present: int
    expected: float
    came: int = 0


class Newcomers:
    """If n more come while `present` wait, the device is spared T(present) + T(n) − T(present + n). What is expected of
    that by the forecast, less the seconds waited, is the gain.

    The forecast takes arrivals to come independently of each other. Where they do not, as with callers who all wait
    for their answers before they ask again, it is corrected, downwards only, by how many really came in the `bound_s`
    after earlier decisions with as many present, held or not.
    """

    def __init__(self, forecast: Forecast, bound_s: float) -> None:
        self.forecast, self._bound_s = forecast, bound_s
        self._looks: dict[Hashable, deque[_Look]] = {}
        self._seen: dict[Hashable, dict[int, tuple[float, float]]] = {}

    def arrived(self, key: Hashable, now: float) -> None:
        self.forecast.arrived(key, now)
        for look in self._open(key, now):
            look.came += 1

    def forget(self, key: Hashable) -> None:
        self._looks.pop(key, None)
        self._seen.pop(key, None)

    def best(
        self, key: Hashable, present: int, run_s: Sequence[float], longest: float, now: float
    ) -> tuple[float, float]:
        """The gain and the hold that has it, in seconds. `run_s[b - 1]` is what a run of b takes, up to a full one."""
        rate, missing, best = self.forecast.rate(key, now), len(run_s) - present, (0.0, 0.0)
        if rate <= 0:
            return best
        self._open(key, now).append(_Look(now + self._bound_s, present, rate * self._bound_s))
        rate *= self._trust(key, present)
        spared = [run_s[present - 1] + run_s[more - 1] - run_s[present + more - 1] for more in range(1, missing + 1)]
        for more in range(1, missing + 1):
            wait = min(more / rate, longest)
            best = max(best, (_expected(spared, rate * wait) - wait, wait), key=lambda one: one[0])
            if wait == longest:
                break
        return best

    def _open(self, key: Hashable, now: float) -> deque[_Look]:
        """The looks that still count; what ended is learned from."""
        looks = self._looks.setdefault(key, deque())
        while looks and looks[0].until < now:
            look = looks.popleft()
            seen = self._seen.setdefault(key, {})
            came, expected = seen.get(look.present, (1.0, 1.0))
            seen[look.present] = KEEPS * came + look.came, KEEPS * expected + look.expected
        return looks

    def _trust(self, key: Hashable, present: int) -> float:
        came, expected = self._seen.get(key, {}).get(present, (1.0, 1.0))
        return min(1.0, max(came / expected, 1e-3))


def _expected(spared: Sequence[float], mean: float) -> float:
    """`spared[n - 1]` is what n arrivals spare, of a Poisson number of them; more than that many spare the last."""
    term, left, total = math.exp(-mean), 1.0, 0.0
    for count, (less, more) in enumerate(itertools.pairwise([0.0, *spared]), 1):
        left -= term
        term *= mean / count
        total += max(0.0, left) * (more - less)
    return total
