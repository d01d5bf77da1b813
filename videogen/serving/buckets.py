"""Token buckets of this process alone, for what is asked too often to ask the store each time."""

import time
from collections.abc import Callable

from videogen.store.rate_limits import Decision, RateLimit, judged

MOST = 10_000
"""Buckets at once; beyond it those that were used least lately are taken for full."""


class Buckets:
    """One event loop's. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._spent: dict[str, tuple[float, float]] = {}

    def take(self, name: str, limit: RateLimit) -> Decision:
        """Takes a token out of the bucket if there is one, as `RateLimits.take`."""
        now = self.clock()
        before, at = self._spent.pop(name, (0.0, now))
        decision = judged(max(0.0, min(before, limit.burst) - (now - at) * limit.per_second), limit)
        self._spent[name] = limit.burst - decision.remaining, now
        if len(self._spent) > MOST:
            del self._spent[next(iter(self._spent))]
        return decision
