"""Work that goes on after a store was away for a while."""

import logging
import time
from collections.abc import Callable
from typing import TypeVar

from videogen.errors import StoreUnavailable

logger = logging.getLogger(__name__)

Done = TypeVar("Done")
PAUSE_S = 0.5


def outlasting(call: Callable[[], Done], seconds: float) -> Done:
    """What `call` gives, which is tried again while the store is away, no longer than for `seconds`.

    `call` may have happened although its answer was lost, so it has to be one that may happen twice. Raises
    StoreUnavailable.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return call()
        except StoreUnavailable as error:
            if time.monotonic() >= deadline:
                raise
            logger.warning("waiting for the store: %s", error)
            time.sleep(PAUSE_S)
