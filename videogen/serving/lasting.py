"""What goes on for as long as the service does goes on after a fault, too: a fault is logged, and it begins anew."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)
PAUSE_S = 1.0


async def lasting(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Runs `work`, which is to run for ever; cancel it to stop."""
    while True:
        try:
            await work()
        except Exception:
            logger.exception("%s failed, and begins anew", name)
        else:
            logger.error("%s ended, and begins anew", name)
        await asyncio.sleep(PAUSE_S)
