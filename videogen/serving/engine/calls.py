"""Questions to the engine process that wait for their answers."""

import asyncio
import itertools
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from videogen.errors import EngineError, EngineUnavailable
from videogen.serving.engine.messages import Answer


class Calls:
    """Each has a number that its answer bears."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()

    @contextmanager
    def new(self) -> Generator[tuple[int, asyncio.Future[Any]]]:
        """A number, and the future that its answer ends: with a value, EngineUnavailable or EngineError."""
        number, future = next(self._numbers), asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        try:
            yield number, future
        finally:
            del self._waiting[number]

    def answer(self, message: Answer) -> None:
        """To a call that nobody waits for any more, nothing happens."""
        future = self._waiting.get(message.call)
        if future is None or future.done():
            return
        if message.error is None:
            future.set_result(message.value)
        else:
            future.set_exception((EngineUnavailable if message.unavailable else EngineError)(message.error))

    @property
    def waiting(self) -> list[asyncio.Future[Any]]:
        return list(self._waiting.values())
