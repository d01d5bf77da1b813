"""When to hold a batch open for more: where the denoiser calls that are saved outweigh the time the device waits."""

from collections.abc import Callable, Hashable

from videogen.scheduling.costs import Costs
from videogen.scheduling.forecast import Forecast, at_least


def one_step(key: Hashable) -> int:
    """Of equally long generations, those that join at the next boundary cost one call more than those that waited."""
    return 1


class WorthHolding:
    """A `Holding` that waits as long as it gains most, at most `bound_s` and the slack.

    If n more come while `present` wait, the device is spared T(present) + T(n) − T(present + n), for `steps` calls and
    for the rest. What is expected of that by the forecast, less the seconds waited, is the gain. `steps` gives the
    calls of a key that a run makes before others can join it.
    """

    def __init__(
        self,
        forecast: Forecast,
        costs: Costs,
        *,
        bound_s: float = 0.05,
        streams: int = 1,
        steps: Callable[[Hashable], int] = one_step,
    ) -> None:
        self.forecast, self._costs, self._bound_s, self._streams, self._steps = forecast, costs, bound_s, streams, steps

    def seconds(self, key: Hashable, present: int, wanted: int, slack: float, now: float) -> float:
        """How long to hold; 0 is not to."""
        longest, missing = min(self._bound_s, slack), wanted - present
        rate = self.forecast.rate(key, now)
        if longest <= 0 or missing < 1 or rate <= 0:
            return 0.0
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

    def _spared(self, key: Hashable, present: int, more: int) -> float:
        def seconds(batch: int) -> float:
            calls = self._steps(key) * self._costs.step(key, batch, self._streams)
            return calls + self._costs.rest(key, batch, self._streams)

        return seconds(present) + seconds(more) - seconds(present + more)


def _expected(spared: list[float], mean: float) -> float:
    """`spared[n - 1]` is what n arrivals spare; more than that many spare the last."""
    gains = [more - less for less, more in zip([0.0, *spared], spared, strict=False)]
    return sum(at_least(count, mean) * gain for count, gain in enumerate(gains, 1))
