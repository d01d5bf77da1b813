"""How the store, which blocks, is called from the event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Protocol, TypeVar

T = TypeVar("T")


class Call(Protocol):
    """Runs a store call where it blocks nobody."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


def in_threads(executor: Executor) -> Call:
    """Calls the store in the threads of `executor`."""

    async def call(work: Callable[[], T], /) -> T:
        return await asyncio.get_running_loop().run_in_executor(executor, work)

    return call
