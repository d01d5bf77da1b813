"""Several things that are done together: of each, what it gives or why it could not be done."""

from collections.abc import Callable
from typing import TypeVar

from videogen.errors import StoreUnavailable

T = TypeVar("T")


def attempted(call: Callable[[], T]) -> T | Exception:
    """What `call` gives, or what it raises: a fault of ours in one of them is not to be the others' either."""
    try:
        return call()
    except Exception as error:
        return error


def attempted_in_block(call: Callable[[], T]) -> T | Exception:
    """As `attempted`, in a block of writes. Raises StoreUnavailable, which takes back the whole of it."""
    outcome = attempted(call)
    return given(outcome) if isinstance(outcome, StoreUnavailable) else outcome


def given(outcome: T | Exception) -> T:
    """What one of them gave. Raises why it could not be done."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
