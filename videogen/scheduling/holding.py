"""When to hold a batch open for more: where the denoiser calls that are saved outweigh the time the device waits."""

import itertools
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass

from videogen.scheduling.costs import Costs
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.returning import Returns

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

    Newcomers: if n more come while `present` wait, the device is spared T(present) + T(n) − T(present + n), for the
    rest and for the calls that a run makes before others can join it: all of the key's shortest generations where they
    take no longer than `fused_max_s`, else one. What is expected of that by the forecast, less the seconds waited, is
    the gain.

    The forecast takes arrivals to come independently of each other. Where they do not, as with callers who all wait
    for their answers before they ask again, it is corrected, downwards only, by how many really came in the `bound_s`
    after earlier decisions with as many present, held or not.

    Callers who come back: without a hold, n of them miss the call that p take now and have the next one. With a hold of
    w seconds n more are served in w + T(p + n) − T(p) seconds more, which at the pace of the two calls without it would
    have made (2·p + n) / (T(p) + T(p + n)) a second. For T(B) = a + b·B the gain is a·n / (p + n/2) − w seconds: it is
    many who are waited for, and who then go on together. Started generations are held for callers alone.
    """

    def __init__(
        self, forecast: Forecast, costs: Costs, *, bound_s: float = 0.05, streams: int = 1, fused_max_s: float = 0.0
    ) -> None:
        self.forecast, self._costs, self._bound_s, self._streams = forecast, costs, bound_s, streams
        self._fused_max_s = fused_max_s
        self._returns = Returns(bound_s)
        self._shortest: dict[Hashable, int] = {}
        self._looks: dict[Hashable, deque[_Look]] = {}
        self._seen: dict[Hashable, dict[int, tuple[float, float]]] = {}

    def arrived(self, key: Hashable, steps: int, now: float) -> None:
        """A generation of `steps` came."""
        self.forecast.arrived(key, now)
        self._shortest[key] = min(self._shortest.get(key, steps), steps)
        self._returns.arrived(key, now)
        for look in self._open(key, now):
            look.came += 1

    def ended(self, key: Hashable, count: int, now: float) -> None:
        """So many generations have all their steps."""
        self._returns.ended(key, count, now)

    def forget(self, key: Hashable) -> None:
        """The key is no longer served."""
        self._returns.forget(key)
        for kept in (self._shortest, self._looks, self._seen):
            kept.pop(key, None)

    def seconds(
        self, key: Hashable, present: int, wanted: int, slack: float, now: float, *, started: bool = False
    ) -> float:
        """How long to hold; 0 is not to."""
        longest = min(self._bound_s, slack)
        if longest <= 0 or present >= wanted:
            return 0.0
        hold = self._for_callers(key, present, wanted, longest, now)
        if not started:
            hold = max(hold, self._for_newcomers(key, present, wanted, longest, now))
        return hold[1]

    def _for_callers(self, key: Hashable, present: int, wanted: int, longest: float, now: float) -> tuple[float, float]:
        """What is gained most, in seconds, by which hold."""
        alone = self._run_s(key, present)
        together = [self._run_s(key, batch) for batch in range(present, wanted + 1)]
        best = 0.0, 0.0
        for wait, expected in self._returns.expected(key, now):
            if wait > longest:
                break
            more = min(expected, wanted - present)
            whole = math.floor(more)
            taken = together[whole] + (more - whole) * (together[math.ceil(more)] - together[whole])
            best = max(best, (more * (alone + taken) / (2 * present + more) - (wait + taken - alone), wait))
        return best

    def _for_newcomers(
        self, key: Hashable, present: int, wanted: int, longest: float, now: float
    ) -> tuple[float, float]:
        """What is gained most, in seconds, by which hold."""
        rate, missing = self.forecast.rate(key, now), wanted - present
        best = 0.0, 0.0
        if rate <= 0:
            return best
        self._open(key, now).append(_Look(now + self._bound_s, present, rate * self._bound_s))
        rate *= self._trust(key, present)
        spared = [self._spared(key, present, more) for more in range(1, missing + 1)]
        for more in range(1, missing + 1):
            wait = min(more / rate, longest)
            gain = _expected(spared, rate * wait) - wait
            if gain > best[0]:
                best = gain, wait
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
        return self._run_s(key, present) + self._run_s(key, more) - self._run_s(key, present + more)

    def _run_s(self, key: Hashable, batch: int) -> float:
        calls = self._calls(key) * self._costs.step(key, batch, self._streams)
        return calls + self._costs.rest(key, batch, self._streams)


def _expected(spared: list[float], mean: float) -> float:
    """`spared[n - 1]` is what n arrivals spare, of a Poisson number of them; more than that many spare the last."""
    term, left, total = math.exp(-mean), 1.0, 0.0
    for count, (less, more) in enumerate(itertools.pairwise([0.0, *spared]), 1):
        left -= term
        term *= mean / count
        total += max(0.0, left) * (more - less)
    return total
