"""Compare-and-swap until it succeeds: how often it is tried, and how long to wait in between."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from videogen.errors import StoreConflict

TRIES = 50
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.001, 0.1
Done = TypeVar("Done")


def until_swapped(attempt: Callable[[], Done | None], what: str) -> Done:
    """What `attempt` gives, which reads, then writes, and gives None if somebody else wrote in between.

    The pauses are random, so that those who met once do not meet again. Raises StoreConflict after `TRIES`.
    """
    for tried in range(TRIES):
        if tried:
            time.sleep(random.uniform(0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2**tried)))
        if (done := attempt()) is not None:
            return done
    raise StoreConflict(f"{what}: others changed it first, {TRIES} times in a row")
