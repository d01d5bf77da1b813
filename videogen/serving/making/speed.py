"""How fast the device makes videos: as the load of a version measured it, corrected by those that are made here."""

import itertools
import math
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from videogen.scheduling.costs import Profiled, Table
from videogen.serving.engine.messages import Loaded
from videogen.serving.making.in_hand import Making
from videogen.serving.views import device_seconds

SHARE = 0.1
"""Of the newest video in the average."""
MOST_PUBLISH_S = 1.0
"""What one video counts at most there: a store that was away is no reason to hurry."""
STEP = "step"


class Speed:
    """One device's, in seconds."""

    def __init__(self) -> None:
        self.seconds_each = 0.1
        """Of the device for one video, when it has enough to do: a moving average of those made here, as if they had
        been made in batches that pay. A device with little to do would seem slow, be given less, and seem slower."""
        self.steps_each = 1.0
        """Of those videos: a moving average like that of their seconds."""
        self.step_s = 0.05
        """Of one step as it goes now, whatever the batch."""
        self.publish_s = 0.0
        """From a video to who waits for its record: a moving average."""
        self.batches_ahead = 0
        """Of two full batches for each stream: with fewer in hand, a device whose steps are slow never fills one."""
        self._measured = Profiled({})
        self._least = 0.0
        self._steps = deque[float](maxlen=4096)

    def learn(self, loaded: Loaded, steps: int, streams: int) -> None:
        """What a load measured, of a version whose videos take so many `steps`."""
        step_s = {int(batch): seconds for batch, seconds in loaded.step_s.items()}
        self.step_s = step_s[min(step_s)]
        self._measured = Profiled({STEP: Table({(batch, 1): seconds for batch, seconds in step_s.items()})})
        self._least = min(seconds / batch for batch, seconds in step_s.items())
        self.seconds_each, self.steps_each = steps * self._least, float(steps)
        self.batches_ahead = 2 * loaded.batch_max * streams

    def stepped(self) -> None:
        """The device made a step just now."""
        self._steps.append(time.monotonic())

    def made(self, facts: Mapping[str, Any]) -> None:
        """A video was made, of which the engine tells these facts."""
        batches = {int(size): steps for size, steps in facts.get("batches", {}).items()}
        usual = sum(steps * self._measured.step(STEP, size, 1) / size for size, steps in batches.items())
        if (spent := device_seconds(facts)) > 0 and usual > 0:
            steps = sum(batches.values())
            paying = spent * steps * self._least / usual
            self.seconds_each += SHARE * (paying - self.seconds_each)
            self.steps_each += SHARE * (steps - self.steps_each)

    def published(self, seconds: float) -> None:
        """A video was in the store so long after it was made."""
        self.publish_s += SHARE * (min(seconds, MOST_PUBLISH_S) - self.publish_s)

    def ahead(self, limits: Making) -> int:
        """How many the device should have in hand."""
        least = max(limits.least_ahead, self.batches_ahead)
        return min(max(least, math.ceil(limits.ahead_s / self.seconds_each)), limits.most_ahead)

    def longest_gap(self, since: float) -> float:
        """The longest time without a step from `since` (monotonic seconds) until now."""
        times = [since, *(one for one in self._steps if one > since), time.monotonic()]
        return max(later - earlier for earlier, later in itertools.pairwise(times))
