"""Whether the store answers: without it a service is not ready, and lives on."""

import asyncio
import logging

from videogen.errors import VideogenError
from videogen.serving.readiness import Readiness
from videogen.store.store import Store

logger = logging.getLogger(__name__)
LOOK_S = 1.0


async def watch_store(store: Store, readiness: Readiness) -> None:
    """Tells `readiness` whether the store is away, for ever; cancel it to stop."""
    while True:
        try:
            # Not in the store's threads, which wait for it when it is away.
            await asyncio.to_thread(store.records.now)
        except VideogenError as error:
            if readiness.away is None:
                logger.error("the store is away: %s", error)
            readiness.away = f"the store is away: {error}"
        else:
            if readiness.away is not None:
                logger.warning("the store is back")
            readiness.away = None
        await asyncio.sleep(LOOK_S)
