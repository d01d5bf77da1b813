"""Writes whose answer was lost: told apart by an id, and looked for until the server says what became of them."""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from videogen.errors import StoreInDoubt, StoreUnavailable

T = TypeVar("T")
PATIENCE_S = 3.0
"""A hung server that goes on, and a client that finds its node again, take about as long."""
SETTLE_S = 0.5
"""What a server was sent before it hung may be overtaken, when it goes on, by the question what became of it."""
PAUSE_S = 0.05


def fault(text: str, in_doubt: bool) -> StoreUnavailable:
    """The error of a server that gave none of its own answers."""
    return StoreInDoubt(text) if in_doubt else StoreUnavailable(text)


def write_ids() -> Iterator[str]:
    """Ids for writes, which no two of any processes share."""
    own = secrets.token_hex(6)
    return (f"{own}{number:x}" for number in itertools.count())


def look_again(look: Callable[[], T | None], doubt: StoreUnavailable) -> T:
    """What `look` finds: tried while the server cannot be reached, and for a moment while it finds None.

    Raises `doubt` when patience ends.
    """
    deadline, answered = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            found = look()
            if found is not None:
                return found
            if not answered:
                answered, deadline = True, time.monotonic() + SETTLE_S
        except StoreUnavailable:
            pass
        if time.monotonic() >= deadline:
            raise doubt from None
        time.sleep(PAUSE_S)
