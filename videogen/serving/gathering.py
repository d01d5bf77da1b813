"""Store calls of one kind that come while one is under way: all of them are the next one.

A backend that writes blocks takes them in one, and its threads, which only take turns with each other there, wake up
once. Where each write is a trip of its own to a server, trips side by side are the faster: nothing is gathered.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from videogen.errors import StoreBusy
from videogen.serving.store_calls import Call
from videogen.store.each import given

Asked = TypeVar("Asked")
Told = TypeVar("Told")
MOST = 512
"""That may wait for the call under way."""
AT_ONCE = 32
"""In one call: who comes next waits until it ends."""


class Gathering(Generic[Asked, Told]):
    """One event loop's. `ask`, which `call` runs, gives of each what it is told, or why it could not be done.

    What `ask` or `call` raises is raised to all who were asked for.
    """

    def __init__(
        self,
        call: Call,
        ask: Callable[[Sequence[Asked]], Sequence[Told | Exception]],
        *,
        gathers: bool,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`check` raises what is to be raised at once, whatever the call under way waits for."""
        self._call, self._ask, self._gathers, self._check = call, ask, gathers, check
        self._waiting: deque[tuple[Asked, asyncio.Future[Told]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Told:
        """Raises StoreBusy where too many wait, and what the asking raises."""
        if not self._gathers:
            return given((await self._call(lambda: self._ask([asked])))[0])
        self._check()
        if len(self._waiting) >= MOST:
            raise StoreBusy(f"{len(self._waiting):,} calls wait for the store; allowed: {MOST:,}")
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_all())
        return await future

    async def _ask_all(self) -> None:
        try:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                await self._ask_for(some)
        finally:
            self._asking = None

    async def _ask_for(self, some: Sequence[tuple[Asked, "asyncio.Future[Told]"]]) -> None:
        try:
            told: Sequence[Told | Exception] = await self._call(lambda: self._ask([asked for asked, _ in some]))
        except Exception as error:
            told = [error] * len(some)
        except BaseException:
            for _, future in some:
                future.cancel()
            raise
        for (_, future), outcome in zip(some, told, strict=True):
            if future.done():  # who asked has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)
