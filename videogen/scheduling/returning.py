"""Callers who come back: what a hold gains by those whose videos just ended, who soon ask again."""

import math
from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

SEEN = 64
"""Of so many jobs that ended, in batches of about a size, it is remembered when somebody came after them."""


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
    delays: dict[int, deque[float]] = field(default_factory=lambda: defaultdict(lambda: deque(maxlen=SEEN)))
    """By size, seconds from an end to the arrival after it; infinite where none came in time."""


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
            callers.delays[first.size].append(now - first.since)
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
            missed = more * together / (present + more)
            best = max(best, (missed - (together - alone) - wait, wait))
        return best

    def expected(self, key: Hashable, now: float) -> list[tuple[float, float]]:
        """Seconds from now, ascending, each with how many are expected by then. Costs `SEEN` for each end in memory."""
        callers, comes = self._open(key, now), []
        for away in callers.away:
            age = now - away.since
            later = [delay - age for delay in callers.delays[away.size] if delay > age]
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
            away = callers.away.popleft()
            callers.delays[away.size].extend([math.inf] * away.count)
        return callers
