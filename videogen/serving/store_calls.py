"""How the store, which blocks, is called from the event loop."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

from videogen.errors import StoreUnavailable

T = TypeVar("T")
PAUSE_S = 0.5


class Call(Protocol):
    """Runs a store call where it blocks nobody."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


def in_threads(executor: Executor) -> Call:
    """Calls the store in the threads of `executor`."""

    async def call(work: Callable[[], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    return call


async def patiently(ask: Callable[[], Awaitable[T]], seconds: float) -> T:
    """What `ask` gives, which is asked again while the store is away or busy, no longer than for `seconds`.

    Raises StoreUnavailable.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if time.monotonic() >= deadline:
                raise
            await asyncio.sleep(PAUSE_S)
