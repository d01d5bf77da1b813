"""Callers who come back: what a hold gains by those whose videos just ended, who soon ask again."""

import math
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

SEEN = 64
"""Of so many jobs that ended, in batches of about a size, it is remembered when somebody came after them."""

MARGIN_S = 0.001
"""How much longer is waited than until somebody is expected: who came just then would find that the run began."""


class _Delays:
    """The last `SEEN` delays from an end to the arrival after it, in seconds; infinite where none came in time."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def add(self, delay: float) -> None:
        self._recent.append(delay)
        insort(self._sorted, delay)
        if len(self._recent) > SEEN:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def between(self, least: float, most: float) -> tuple[list[float], int]:
        """Those above `least` and up to `most`, ascending; and how many are above `least` in all."""
        start = bisect_right(self._sorted, least)
        return self._sorted[start : bisect_right(self._sorted, most)], len(self._sorted) - start


@dataclass(slots=True)
class _Away:
    """`count` callers whose videos ended at `since`, and who have not come back; `size`: about how many ended together,
    the bits of that number."""

    since: float
    count: int
    size: int


@dataclass(slots=True)
class _Callers:
    away: deque[_Away] = field(default_factory=deque)
    delays: defaultdict[int, _Delays] = field(default_factory=lambda: defaultdict(_Delays))
    """By size."""


class Returns:
    """By key, how soon an end is followed by an arrival, at most `within_s` seconds later.

    An arrival is taken for the caller of the job that ended first of those for which nobody came yet. Where callers ask
    again as soon as they are answered, that is who they are; where they come independently of answers, it is a fair
    forecast all the same. Callers are expected as those before them came who were about as many; one of those who
    didn't is always imagined.

    Without a hold, n of them miss the call that p take now; at the pace of all together that is n·T(p + n) / (p + n)
    seconds lost. With a hold of w seconds the call begins as much later and takes T(p + n) − T(p) longer. So for
    T(B) = a + b·B the gain is a·n / (p + n) − w: it is many who are waited for, and who then go on together.
    """

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._of: dict[Hashable, _Callers] = {}

    def ended(self, key: Hashable, count: int, now: float) -> None:
        """So many videos have all their steps."""
        self._open(key, now).away.append(_Away(now, count, count.bit_length()))

    def arrived(self, key: Hashable, now: float) -> None:
        callers = self._open(key, now)
        if callers.away:
            first = callers.away[0]
            callers.delays[first.size].add(now - first.since)
            first.count -= 1
            if not first.count:
                callers.away.popleft()

    def forget(self, key: Hashable) -> None:
        self._of.pop(key, None)

    def best(
        self, key: Hashable, present: int, run_s: Sequence[float], longest: float, now: float
    ) -> tuple[float, float]:
        """The gain and the hold that has it, in seconds. `run_s[b - 1]` is what a run of b takes, up to a full one."""
        missing, best = len(run_s) - present, (0.0, 0.0)
        most = max(_spared(present, more, run_s) for more in range(missing + 1))
        for comes, expected in self.expected(key, now, min(longest, most) - MARGIN_S):
            wait = comes + MARGIN_S
            best = max(best, (_spared(present, min(expected, missing), run_s) - wait, wait))
        return best

    def expected(self, key: Hashable, now: float, within: float) -> list[tuple[float, float]]:
        """Seconds from now, ascending and up to `within`, each with how many are expected by then.

        Costs a search for each batch that ended in the last `within_s`, and a sort of what is found.
        """
        callers, comes = self._open(key, now), []
        for away in callers.away:
            age = now - away.since
            soon, later = callers.delays[away.size].between(age, age + within)
            comes += [(delay - age, away.count / (later + 1)) for delay in soon]
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
            away = callers.away.popleft()
            for _ in range(away.count):
                callers.delays[away.size].add(math.inf)
        return callers


def _spared(present: int, more: float, run_s: Sequence[float]) -> float:
    """Seconds that are gained if `more`, a mean, join at once; between whole numbers on a straight line."""
    below, part = present - 1 + math.floor(more), more % 1
    together = run_s[below] + (part * (run_s[below + 1] - run_s[below]) if part else 0.0)
    return more * together / (present + more) - (together - run_s[present - 1])
