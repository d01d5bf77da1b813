"""What will arrive: for each batch key a smoothed rate, times what the hour of the day usually brings."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

HOUR_S, HOURS = 3600.0, 24
PROFILE_GAIN = 0.3
"""How far an hour's factor moves to what that hour brought this time."""


@dataclass(slots=True)
class _Seen:
    """One key. `level` is arrivals a second without the hour's factor, decayed to `at`."""

    first: float
    at: float
    level: float = 0.0
    hour: int = 0
    this_hour: int = 0
    usual: float = 0.0
    factors: list[float] = field(default_factory=lambda: [1.0] * HOURS)


class Forecast:
    """Arrivals by key, by exponential smoothing with a daily profile.

    An arrival counts less the longer ago it is: after `memory_s` seconds 1/e. A key's rate is 0 until it arrived twice.
    Of more than `most` keys the one that was quiet longest is forgotten. Times are seconds on the caller's clock;
    `offset_s` is what that clock shows at a midnight. An arrival costs the same however many came before.
    """

    def __init__(self, memory_s: float = 10.0, *, most: int = 1000, offset_s: float = 0.0) -> None:
        if not (memory_s > 0 and most > 0):
            raise ValueError(f"got memory_s {memory_s}, most {most}; allowed: more than 0")
        self._memory_s, self._most, self._offset_s = memory_s, most, offset_s
        self._seen: OrderedDict[Hashable, _Seen] = OrderedDict()

    def __len__(self) -> int:
        return len(self._seen)

    def arrived(self, key: Hashable, now: float) -> None:
        """One arrival. A clock that went back counts as one that stood still."""
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(first=now, at=now, hour=self._hours(now), this_hour=1)
            if len(self._seen) > self._most:
                self._seen.popitem(last=False)
            return
        self._seen.move_to_end(key)
        now = max(now, seen.at)
        self._close_hours(seen, self._hours(now))
        seen.this_hour += 1
        seen.level = self._decayed(seen, now) + 1 / (self._memory_s * self._factor(seen, now))
        seen.at = now

    def rate(self, key: Hashable, now: float) -> float:
        """Arrivals a second that are expected from now on."""
        seen = self._seen.get(key)
        if seen is None or seen.level <= 0:
            return 0.0
        now = max(now, seen.at)
        known = -math.expm1(-(now - seen.first) / self._memory_s)
        return self._decayed(seen, now) * self._factor(seen, now) / max(known, 1e-9)

    def gap(self, key: Hashable, now: float) -> float:
        """Seconds until the next arrival, as expected; infinite where none is."""
        rate = self.rate(key, now)
        return 1 / rate if rate > 0 else math.inf

    def probability(self, key: Hashable, count: int, within_s: float, now: float) -> float:
        """Of at least `count` arrivals in the next `within_s` seconds, if they come independently of each other."""
        return at_least(count, self.rate(key, now) * max(0.0, within_s))

    def _decayed(self, seen: _Seen, now: float) -> float:
        return seen.level * math.exp(-(now - seen.at) / self._memory_s)

    def _hours(self, now: float) -> int:
        return math.floor((now - self._offset_s) / HOUR_S)

    def _factor(self, seen: _Seen, now: float) -> float:
        return seen.factors[self._hours(now) % HOURS]

    def _close_hours(self, seen: _Seen, hour: int) -> None:
        """Learns from the hours that ended; those before the last day were quiet and are passed over."""
        for ended in range(max(seen.hour, hour - HOURS), hour):
            brought = seen.this_hour if ended == seen.hour else 0
            seen.usual += (brought - seen.usual) * (PROFILE_GAIN / HOURS if seen.usual else 1.0)
            if seen.usual > 0:
                place = ended % HOURS
                real = min(max(brought / seen.usual, 0.05), 20.0)
                seen.factors[place] += PROFILE_GAIN * (real - seen.factors[place])
        if hour > seen.hour:
            seen.hour, seen.this_hour = hour, 0


def at_least(count: int, mean: float) -> float:
    """The probability that a Poisson variable of this mean is `count` or more."""
    if count <= 0:
        return 1.0
    term = below = math.exp(-mean)
    for number in range(1, count):
        term *= mean / number
        below += term
    return max(0.0, 1.0 - below)
