"""A simulated clock: calls at times, made in order."""

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Clock:
    """`now` is in seconds. Of calls at one time the one that was asked for first goes first."""

    def __init__(self) -> None:
        self.now = 0.0
        self._orders = itertools.count()
        self._calls: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def at(self, time: float, call: Callable[..., object], *arguments: Any) -> None:
        heapq.heappush(self._calls, (time, next(self._orders), call, arguments))

    def play(self, seconds: float, on_progress: Callable[[float], object]) -> None:
        """Makes all calls up to a time; `on_progress` is told the share of it that is over, now and then."""
        told = 0.0
        while self._calls and self._calls[0][0] <= seconds:
            self.now, _, call, arguments = heapq.heappop(self._calls)
            call(*arguments)
            if self.now >= told:
                on_progress(self.now / seconds)
                told = self.now + seconds / 100


class Turn:
    """What does one thing at a time, in the order of asking."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._free = clock, 0.0

    def after(self, busy_s: float, call: Callable[..., object], *arguments: Any, later_s: float = 0.0) -> None:
        """Calls `later_s` after it was busy with this."""
        self._free = max(self._free, self._clock.now) + busy_s
        if self._free + later_s <= self._clock.now:
            call(*arguments)
        else:
            self._clock.at(self._free + later_s, call, *arguments)
