"""Callers who come back: what a hold gains by those whose videos just ended, who soon ask again."""

import math
from collections import deque
from collections.abc import Hashable, Sequence
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

    Without a hold, n of them miss the call that p take now and have the next one. With a hold of w seconds n more are
    served in w + T(p + n) − T(p) seconds more, which at the pace of the two calls without it would have made
    (2·p + n) / (T(p) + T(p + n)) a second. For T(B) = a + b·B the gain is a·n / (p + n/2) − w seconds: it is
    many who are waited for, and who then go on together.
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

    def best(
        self, key: Hashable, present: int, run_s: Sequence[float], longest: float, now: float
    ) -> tuple[float, float]:
        """The gain and the hold that has it, in seconds. `run_s[b - 1]` is what a run of b takes, up to a full one."""
        alone, best = run_s[present - 1], (0.0, 0.0)
        for wait, expected in self.expected(key, now):
            if wait > longest:
                break
            more = min(expected, len(run_s) - present)
            below, part = present - 1 + math.floor(more), more % 1
            together = run_s[below] + (part * (run_s[below + 1] - run_s[below]) if part else 0.0)
            paced = more * (alone + together) / (2 * present + more)
            best = max(best, (paced - (wait + together - alone), wait))
        return best

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
