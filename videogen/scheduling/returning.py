"""Who was answered asks again: how many of those whose videos just ended are still to come, and when."""

import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

SEEN = 64
"""Of so many jobs that ended it is remembered when somebody came after them."""


@dataclass(slots=True)
class _Away:
    """`count` callers whose videos ended at `since`, and who have not come back."""

    since: float
    count: int


@dataclass(slots=True)
class _Callers:
    away: deque[_Away] = field(default_factory=deque)
    delays: deque[float] = field(default_factory=lambda: deque(maxlen=SEEN))
    """Seconds from an end to the arrival after it; infinite where none came in time."""


class Returns:
    """By key, how soon an end is followed by an arrival, at most `within_s` seconds later.

    An arrival is taken for the caller of the job that ended first of those for which nobody came yet. Where callers ask
    again as soon as they are answered, that is who they are; where they come independently of answers, it is a fair
    forecast all the same. Callers are expected as those before them came; one of those who didn't is always imagined.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._of: dict[Hashable, _Callers] = {}

    def ended(self, key: Hashable, count: int, now: float) -> None:
        """So many videos have all their steps."""
        self._open(key, now).away.append(_Away(now, count))

    def arrived(self, key: Hashable, now: float) -> None:
        callers = self._open(key, now)
        if callers.away:
            first = callers.away[0]
            callers.delays.append(now - first.since)
            first.count -= 1
            if not first.count:
                callers.away.popleft()

    def forget(self, key: Hashable) -> None:
        self._of.pop(key, None)

    def expected(self, key: Hashable, now: float) -> list[tuple[float, float]]:
        """Seconds from now, ascending, each with how many are expected by then. Costs `SEEN` for each end in memory."""
        callers, comes = self._open(key, now), []
        for away in callers.away:
            age = now - away.since
            later = [delay - age for delay in callers.delays if delay > age]
            comes += [(wait, away.count / (len(later) + 1)) for wait in later if wait < math.inf]
        comes.sort()
        found, total = [], 0.0
        for wait, share in comes:
            total += share
            found.append((wait, total))
        return found

    def _open(self, key: Hashable, now: float) -> _Callers:
        """Those who may still come; the others are known not to."""
        callers = self._of.setdefault(key, _Callers())
        while callers.away and callers.away[0].since + self._within_s < now:
            callers.delays.extend([math.inf] * callers.away.popleft().count)
        return callers
