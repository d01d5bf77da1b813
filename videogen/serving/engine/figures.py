"""What is counted of a device's steps and streams, and told every half second."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from videogen.serving.engine.messages import Stats


class Figures:
    """Of a loop, under whose lock it is called. Times are seconds on the monotonic clock."""

    def __init__(self, streams: int) -> None:
        self._taken = [0.0] * streams
        self._batches: Counter[int] = Counter()
        self._steps: list[float] = []
        self._decision_s = 0.0
        self._held_since: float | None = None
        self._held_s = 0.0
        self._stats_at = time.monotonic()

    def decided(self, began: float, *, is_held: bool) -> None:
        """The scheduler was asked; `is_held`: it holds a batch open."""
        self._decision_s = max(self._decision_s, time.monotonic() - began)
        if self._held_since is not None:
            self._held_s += began - self._held_since
        self._held_since = began if is_held else None

    def stepped(self, stream: int, batch: int, steps: int, seconds: float, taken: float) -> None:
        """A stream took steps, in `seconds`, and was `taken` by that so much longer since the last look."""
        self._taken[stream] += taken
        self._batches[batch] += steps
        self._steps.append(seconds / steps)

    def helped(self, stream: int, seconds: float) -> None:
        """A stream did a stage's work for so long."""
        self._taken[stream] += seconds

    def stats(self, calls: Mapping[int | str, float], **standing: Any) -> Stats:
        """Since the last time it was asked. `calls`: who is in a call, since when; `standing`: how all stands now."""
        now = time.monotonic()
        wall, steps = max(1e-9, now - self._stats_at), self._steps
        taken = [spent + now - calls.get(number, now) for number, spent in enumerate(self._taken)]
        stats = Stats(
            busy_share=[min(1.0, max(0.0, spent / wall)) for spent in taken],
            step_seconds=sum(steps) / len(steps) if steps else None,
            batches=dict(self._batches),
            held_s=self._held_s,
            decision_s=self._decision_s,
            call_age_s=max((now - since for since in calls.values()), default=0.0),
            **standing,
        )
        self._taken = [calls.get(number, now) - now for number in range(len(self._taken))]
        self._steps, self._decision_s, self._stats_at = [], 0.0, now
        return stats
