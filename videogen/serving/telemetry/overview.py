"""The last minute of one replica, as `videogen top` and the admin's stats show it. Nothing is asked of the store."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from videogen.serving.telemetry.observing import Ended, Load, Observer, Refusal, Submitted

WINDOW_S = 60.0
MOST_EVENTS = 20_000
"""Of one kind that are remembered; of more in a minute, the latest."""
Event: TypeAlias = tuple[float, str, str, float]
"""When, what, of which class, and how many seconds it took."""


class Overview(Observer):
    """Counts of the last `WINDOW_S` and since the start. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.started_at, self.load = clock, clock(), Load()
        self._submitted: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._ended: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._refused: deque[Event] = deque(maxlen=MOST_EVENTS)
        self._steps: deque[tuple[float, int, int, float]] = deque(maxlen=MOST_EVENTS)
        self._swaps = Counter[bool]()
        self._restarts, self._last_swap_s, self._last_gap_s = 0, 0.0, 0.0

    def submitted(self, job: Submitted) -> None:
        self._submitted.append((self.clock(), job.cache, job.priority, 0.0))

    def refused(self, why: Refusal) -> None:
        self._refused.append((self.clock(), why, "", 0.0))

    def ended(self, job: Ended) -> None:
        self._ended.append((self.clock(), job.outcome, job.priority, max(0.0, job.ended_at - job.accepted_at)))

    def stepped(self, batch: int, calls: int, seconds: float) -> None:
        self._steps.append((self.clock(), batch, calls, seconds))

    def loaded(self, load: Load) -> None:
        self.load = load

    def restarted(self) -> None:
        self._restarts += 1

    def swapped(self, succeeded: bool, seconds: float, longest_gap_s: float) -> None:
        self._swaps[succeeded] += 1
        self._last_swap_s, self._last_gap_s = seconds, longest_gap_s

    def as_plain(self) -> dict[str, Any]:
        """JSON values: `last_minute` counts, `seconds` quantiles of completed jobs by class, `engine`, `swaps`."""
        since = self.clock() - WINDOW_S
        completed = [one for one in self._ended if one[0] >= since and one[1] == "completed"]
        steps = [one for one in self._steps if one[0] >= since]
        batches = Counter[int]()
        for _, size, calls, _ in steps:
            batches[size] += calls
        classes = sorted({one[2] for one in completed})
        return {
            "up_s": round(self.clock() - self.started_at, 1),
            "last_minute": {
                "accepted": _counts(self._submitted, since),
                "ended": _counts(self._ended, since),
                "refused": _counts(self._refused, since),
                "batches": {str(size): calls for size, calls in sorted(batches.items())},
                "step_p50_s": quantile([one[3] for one in steps], 0.5),
            },
            "seconds": {
                name: {f"p{q}": quantile([one[3] for one in completed if one[2] == name], q / 100) for q in (50, 95)}
                for name in classes
            },
            "engine": {
                "ready": self.load.ready,
                "waiting": dict(self.load.waiting),
                "running": self.load.running,
                "work_s": round(self.load.work_s, 3),
                "busy": [round(share, 3) for share in self.load.busy],
                "restarts": self._restarts,
            },
            "swaps": {
                "succeeded": self._swaps[True],
                "failed": self._swaps[False],
                "last_s": self._last_swap_s,
                "last_longest_gap_s": self._last_gap_s,
            },
        }


def quantile(values: Sequence[float], q: float) -> float | None:
    """The smallest of `values` that is not below a share `q` of them (nearest rank), None if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(q * len(ordered)) - 1)] if ordered else None


def _counts(events: Sequence[Event], since: float) -> dict[str, int]:
    return dict(Counter(what for at, what, _, _ in events if at >= since))
