"""Whether the store answers: without it a service is not ready, and lives on."""

import asyncio
import logging

from videogen.errors import VideogenError
from videogen.serving.service import Service

logger = logging.getLogger(__name__)
LOOK_S = 1.0


async def watch_store(service: Service) -> None:
    """Tells `service` whether its store is away, for ever; cancel it to stop."""
    while True:
        try:
            # Not in the store's threads, which wait for it when it is away.
            await asyncio.to_thread(service.store.records.now)
        except VideogenError as error:
            if service.away is None:
                logger.error("the store is away: %s", error)
            service.away = f"the store is away: {error}"
        else:
            if service.away is not None:
                logger.warning("the store is back")
            service.away = None
        await asyncio.sleep(LOOK_S)
