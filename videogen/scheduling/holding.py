"""When to hold a batch open for more: where the denoiser calls that are saved outweigh the time the device waits."""

from collections.abc import Hashable

from videogen.scheduling.costs import Costs
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.newcomers import Newcomers
from videogen.scheduling.returning import Returns

MEMORY_S = 2.0
"""Of a forecast to hold by: bursts of seconds are seen while they last."""


class WorthHolding:
    """A `Holding` that waits as long as it gains most, at most `bound_s` and the slack: for newcomers or for
    callers who come back. Started generations are held for callers alone.

    What is spared is the rest and the calls that a run makes before others can join it: all of the key's shortest
    generations where they take no longer than `fused_max_s`, else one.
    """

    def __init__(
        self, forecast: Forecast, costs: Costs, *, bound_s: float = 0.05, streams: int = 1, fused_max_s: float = 0.0
    ) -> None:
        self.forecast, self._costs, self._bound_s, self._streams = forecast, costs, bound_s, streams
        self._fused_max_s = fused_max_s
        self._newcomers, self._returns = Newcomers(forecast, bound_s), Returns(bound_s)
        self._shortest: dict[Hashable, int] = {}

    def arrived(self, key: Hashable, steps: int, now: float) -> None:
        """A generation of `steps` came."""
        self._newcomers.arrived(key, now)
        self._returns.arrived(key, now)
        self._shortest[key] = min(self._shortest.get(key, steps), steps)

    def ended(self, key: Hashable, count: int, now: float) -> None:
        """So many generations have all their steps."""
        self._returns.ended(key, count, now)

    def forget(self, key: Hashable) -> None:
        """The key is no longer served."""
        self._newcomers.forget(key)
        self._returns.forget(key)
        self._shortest.pop(key, None)

    def seconds(
        self, key: Hashable, present: int, wanted: int, slack: float, now: float, *, started: bool = False
    ) -> float:
        """How long to hold; 0 is not to."""
        longest = min(self._bound_s, slack)
        if longest <= 0 or present >= wanted:
            return 0.0
        run_s = [self._run_s(key, batch) for batch in range(1, wanted + 1)]
        best = self._returns.best(key, present, run_s, longest, now)
        if not started:
            best = max(best, self._newcomers.best(key, present, run_s, longest, now))
        return best[1]

    def _run_s(self, key: Hashable, batch: int) -> float:
        calls = self._calls(key) * self._costs.step(key, batch, self._streams)
        return calls + self._costs.rest(key, batch, self._streams)

    def _calls(self, key: Hashable) -> int:
        steps = self._shortest.get(key, 1)
        return steps if steps * self._costs.step(key, 1, 1) <= self._fused_max_s else 1
