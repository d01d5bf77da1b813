"""What goes on beside the service's callers on an event loop."""

import asyncio
import logging
from collections.abc import Coroutine

logger = logging.getLogger(__name__)


class Tasks:
    """One event loop's. At the end those that settle something are waited for, and the others are cancelled."""

    def __init__(self) -> None:
        self._settling = set[asyncio.Task[None]]()
        self._others = set[asyncio.Task[None]]()

    def spawn(self, work: Coroutine[None, None, None], *, settles: bool = False) -> None:
        """Begins `work`, whose fault is logged. `settles`: it tells the store what came of a claim."""
        task = asyncio.get_running_loop().create_task(work)
        (self._settling if settles else self._others).add(task)
        task.add_done_callback(self._ended)

    async def settled(self, seconds: float) -> None:
        """Waits for what settles something."""
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=seconds)

    async def cancel_others(self, seconds: float) -> None:
        """Ends what settles nothing."""
        if others := set(self._others):
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=seconds)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._settling.discard(task)
        self._others.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a task of the service failed", exc_info=task.exception())
