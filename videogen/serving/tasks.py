"""What goes on beside the service's callers on an event loop."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager

from videogen.serving.lasting import lasting

logger = logging.getLogger(__name__)


class Tasks:
    """One event loop's. At the end those that settle something are waited for, and the others are cancelled."""

    def __init__(self) -> None:
        self._settling = set[asyncio.Future[None]]()
        self._others = set[asyncio.Task[None]]()
        self._needed = dict[asyncio.Task[None], str]()
        self.lost: list[str] = []
        """What the service cannot do without and has lost, for good."""

    def spawn(self, work: Coroutine[None, None, None], *, settles: bool = False, needed_as: str | None = None) -> None:
        """Begins `work`, whose fault is logged. `settles`: it tells the store what came of a claim.

        `needed_as`: if it does not end well, the service is of no more use, and this is what was lost.
        """
        task = asyncio.get_running_loop().create_task(work)
        (self._settling if settles else self._others).add(task)
        if needed_as is not None:
            self._needed[task] = needed_as
        task.add_done_callback(self._ended)

    def last(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Begins what the service needs for as long as it goes on, and begins it anew after a fault."""
        self.spawn(lasting(work, name), needed_as=name)

    @contextmanager
    def settling(self) -> Generator[None]:
        """What is done within settles something."""
        ended = asyncio.get_running_loop().create_future()
        self._settling.add(ended)
        try:
            yield
        finally:
            self._settling.discard(ended)
            ended.set_result(None)

    async def settled(self, seconds: float) -> None:
        """Waits for what settles something."""
        if self._settling:
            await asyncio.wait(set(self._settling), timeout=seconds)

    async def cancel_others(self, seconds: float) -> None:
        """Ends what settles nothing."""
        self._needed.clear()
        if others := set(self._others):
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=seconds)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._settling.discard(task)
        self._others.discard(task)
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        needed = self._needed.pop(task, None)
        if error is not None and needed is not None:
            self.lost.append(f"{needed} has ended: {str(error) or type(error).__name__}")
        if error is not None and (needed is not None or not task.cancelled()):
            logger.error("%s failed", needed or "a task of the service", exc_info=error)
