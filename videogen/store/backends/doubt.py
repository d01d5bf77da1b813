"""After a write whose answer was lost: looking until the server says what became of it."""

import time
from collections.abc import Callable
from typing import TypeVar

from videogen.errors import StoreUnavailable

T = TypeVar("T")
PATIENCE_S = 3.0
"""A hung server that goes on, and a client that finds its node again, take about as long."""
PAUSE_S = 0.1


def look_again(look: Callable[[], T], doubt: StoreUnavailable, patience_s: float = PATIENCE_S) -> T:
    """What `look` gives, tried again while the server cannot be reached. Raises `doubt` when patience ends."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return look()
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise doubt from None
            time.sleep(PAUSE_S)
