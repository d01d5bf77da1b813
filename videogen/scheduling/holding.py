"""When to hold a batch open for more: where the denoiser calls that are saved outweigh the time the device waits."""

import itertools
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from videogen.scheduling.costs import Costs
from videogen.scheduling.forecast import Forecast

MEMORY_S = 2.0
"""Of a forecast to hold by: bursts of seconds are seen while they last."""
KEEPS = 0.95
"""What older looks at what came count, against one look more."""


@dataclass(slots=True)
class _Look:
    """Who is counted that comes before `until`; `expected` of them by the forecast, while `present` waited."""

    until: float
    present: int
    expected: float
    came: int = 0


class WorthHolding:
    """A `Holding` that waits as long as it gains most, at most `bound_s` and the slack.

    If n more come while `present` wait, the device is spared T(present) + T(n) − T(present + n), for the rest and for
    the calls that a run makes before others can join it: all of the key's shortest generations where they take no
    longer than `fused_max_s`, else one. What is expected of that by the forecast, less the seconds waited, is the gain.

    The forecast takes arrivals to come independently of each other. Where they do not, as with callers who all wait
    for their answers before they ask again, it is corrected, downwards only, by how many really came in the `bound_s`
    after earlier decisions with as many present, held or not.
    """

    def __init__(
        self, forecast: Forecast, costs: Costs, *, bound_s: float = 0.05, streams: int = 1, fused_max_s: float = 0.0
    ) -> None:
        self.forecast, self._costs, self._bound_s, self._streams = forecast, costs, bound_s, streams
        self._fused_max_s = fused_max_s
        self._shortest: dict[Hashable, int] = {}
        self._looks: dict[Hashable, deque[_Look]] = {}
        self._seen: dict[Hashable, dict[int, tuple[float, float]]] = {}

    def arrived(self, key: Hashable, steps: int, now: float) -> None:
        """A generation of `steps` came."""
        self.forecast.arrived(key, now)
        self._shortest[key] = min(self._shortest.get(key, steps), steps)
        for look in self._open(key, now):
            look.came += 1

    def forget(self, key: Hashable) -> None:
        """The key is no longer served."""
        for kept in (self._shortest, self._looks, self._seen):
            kept.pop(key, None)

    def seconds(self, key: Hashable, present: int, wanted: int, slack: float, now: float) -> float:
        """How long to hold; 0 is not to."""
        longest, missing = min(self._bound_s, slack), wanted - present
        rate = self.forecast.rate(key, now)
        if longest <= 0 or missing < 1 or rate <= 0:
            return 0.0
        self._open(key, now).append(_Look(now + self._bound_s, present, rate * self._bound_s))
        rate *= self._trust(key, present)
        spared = [self._spared(key, present, more) for more in range(1, missing + 1)]
        best, best_gain = 0.0, 0.0
        for more in range(1, missing + 1):
            wait = min(more / rate, longest)
            gain = _expected(spared, rate * wait) - wait
            if gain > best_gain:
                best, best_gain = wait, gain
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

    def _calls(self, key: Hashable) -> int:
        steps = self._shortest.get(key, 1)
        return steps if steps * self._costs.step(key, 1, 1) <= self._fused_max_s else 1

    def _spared(self, key: Hashable, present: int, more: int) -> float:
        def seconds(batch: int) -> float:
            calls = self._calls(key) * self._costs.step(key, batch, self._streams)
            return calls + self._costs.rest(key, batch, self._streams)

        return seconds(present) + seconds(more) - seconds(present + more)


def _expected(spared: list[float], mean: float) -> float:
    """`spared[n - 1]` is what n arrivals spare, of a Poisson number of them; more than that many spare the last."""
    term, left, total = math.exp(-mean), 1.0, 0.0
    for count, (less, more) in enumerate(itertools.pairwise([0.0, *spared]), 1):
        left -= term
        term *= mean / count
        total += max(0.0, left) * (more - less)
    return total
