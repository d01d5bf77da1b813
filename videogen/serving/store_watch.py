"""Whether the store answers: without it a service is not ready, and lives on."""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor

from videogen.errors import VideogenError
from videogen.serving.readiness import Readiness
from videogen.store.store import Store

logger = logging.getLogger(__name__)
LOOK_S = 1.0


async def watch_store(store: Store, readiness: Readiness) -> None:
    """Tells `readiness` whether the store is away, for ever; cancel it to stop."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="videogen-watch")  # all others may wait, for the store or a name
    while True:
        try:
            await asyncio.get_running_loop().run_in_executor(thread, store.records.now)
        except VideogenError as error:
            if readiness.away is None:
                logger.error("the store is away: %s", error)
            readiness.away = f"the store is away: {error}"
        else:
            if readiness.away is not None:
                logger.warning("the store is back")
            readiness.away = None
        await asyncio.sleep(LOOK_S)
