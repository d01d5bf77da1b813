"""Store calls of one kind that come while one is under way: all of them are the next one.

A backend that writes blocks takes them in one, and its threads, which only take turns with each other there, wake up
once. Where each write is a trip of its own to a server, trips side by side are the faster: see `alone`.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from videogen.errors import StoreBusy
from videogen.serving.store_calls import Call
from videogen.store.each import given

Asked = TypeVar("Asked")
Told = TypeVar("Told")
Ask = Callable[[Sequence[Asked]], Sequence[Told | Exception]]
"""Gives of each what it is told, or why it could not be done."""
AT_ONCE = 32
"""In one call: who comes next waits until it ends."""


def alone(call: Call, ask: Ask[Asked, Told]) -> Callable[[Asked], Awaitable[Told]]:
    """Asks for each by itself, side by side."""

    async def asking(asked: Asked) -> Told:
        return given((await call(lambda: ask([asked])))[0])

    return asking


class Gathering(Generic[Asked, Told]):
    """One event loop's; `call` runs `ask`. What either raises is raised to all who were asked for.

    Beyond `most` that wait for the call under way, StoreBusy is; None is no bound.
    """

    def __init__(self, call: Call, ask: Ask[Asked, Told], most: int | None = None) -> None:
        self._call, self._ask, self._most = call, ask, most
        self._waiting: deque[tuple[Asked, asyncio.Future[Told]]] = deque()
        self._asking: asyncio.Task[None] | None = None

    async def __call__(self, asked: Asked) -> Told:
        if self._most is not None and len(self._waiting) >= self._most:
            raise StoreBusy(f"{len(self._waiting):,} calls wait for the store; allowed: {self._most:,}")
        future: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_for_all())
        return await future

    async def _ask_for_all(self) -> None:
        try:
            while self._waiting:
                some = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
                try:
                    await self._ask_for(some)
                finally:
                    _give_up(some)
        finally:
            self._asking = None
            _give_up(self._waiting)

    async def _ask_for(self, some: Sequence[tuple[Asked, "asyncio.Future[Told]"]]) -> None:
        told: Sequence[Told | Exception]
        try:
            told = await self._call(lambda: self._ask([asked for asked, _ in some]))
            if len(told) != len(some):
                raise RuntimeError(f"asked for {len(some)}, told of {len(told)}")
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return  # the call's own: who runs it has ended
        except Exception as error:
            told = [error] * len(some)
        for (_, future), outcome in zip(some, told, strict=True):
            if future.done():  # who asked has gone
                continue
            if isinstance(outcome, Exception):
                future.set_exception(outcome)
            else:
                future.set_result(outcome)


def _give_up(some: "Sequence[tuple[Asked, asyncio.Future[Told]]] | deque[tuple[Asked, asyncio.Future[Told]]]") -> None:
    """Nobody waits for ever for what was not told."""
    for _, future in some:
        future.cancel()
