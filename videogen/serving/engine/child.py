"""The engine process as a child of the service's: started, spoken to, watched, ended."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from videogen.errors import EngineError, EngineUnavailable
from videogen.serving.engine.messages import (
    HEADER,
    Configure,
    EngineConfig,
    MalformedMessage,
    Ready,
    Stats,
    Stop,
    ToEngine,
    decode,
    encode,
    sizes,
)
from videogen.serving.engine.spawning import pass_on_lines, spawn

logger = logging.getLogger(__name__)
START_S = 60.0


@dataclass(frozen=True, slots=True)
class Gone:
    """How a process ended; `is_unasked`: it had come up, and nobody had asked it to stop."""

    exit_code: int
    reason: str
    is_unasked: bool

    @property
    def error(self) -> EngineUnavailable:
        """What whoever waits for the process hears."""
        return EngineUnavailable(f"the engine process ended (exit code {self.exit_code})")


class Child:
    """One process at a time, on one event loop: `on_message` hears what it says, `on_gone` of its end.

    One that says nothing for `config.hang_after_s`, or tells of a call that takes longer, is ended.
    """

    def __init__(
        self, config: EngineConfig, on_message: Callable[[Any], None], on_gone: Callable[[Gone], None]
    ) -> None:
        self.config, self._on_message, self._on_gone = config, on_message, on_gone
        self.ready: Ready | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._started: asyncio.Future[None] | None = None
        self._heard_at = 0.0
        self._stopping = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and self.ready is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Raises EngineUnavailable if it doesn't come up, EngineError if there is one already."""
        if self._process is not None:
            raise EngineError("the engine process is there already")
        loop = asyncio.get_running_loop()
        process, ours = await spawn(self.config)
        self._process = process
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            self.kill()
            self._process = None
            raise
        self._stopping, self._heard_at, self._started = False, loop.time(), loop.create_future()
        self._tasks = [
            loop.create_task(pass_on_lines(process)),
            loop.create_task(self._hear(reader, process)),
            loop.create_task(self._watch(process)),
        ]
        self.send(Configure(self.config))
        try:
            await asyncio.wait_for(asyncio.shield(self._started), START_S)
        except (TimeoutError, EngineError) as error:
            self.kill()
            await self._wait_gone()
            raise EngineUnavailable(f"the engine process did not come up: {error or 'no word from it'}") from error

    async def stop(self, grace_s: float) -> None:
        """Lets it finish what it has for at most `grace_s` seconds, then ends it."""
        self._stopping = True
        self.send(Stop(grace_s))
        try:
            await asyncio.wait_for(self._wait_gone(), grace_s + 5.0)
        except TimeoutError:
            self.kill()
            await self._wait_gone()

    def kill(self) -> None:
        """Ends it at once, whatever it does, with all that it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def send(self, message: ToEngine) -> None:
        """To nobody, if it is gone."""
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    # Inside

    async def _hear(self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process) -> None:
        reason = ""
        try:
            while True:
                head, payload = sizes(await reader.readexactly(HEADER.size))
                message = decode(await reader.readexactly(head), await reader.readexactly(payload))
                self._heard_at = asyncio.get_running_loop().time()
                self._look(message)
                self._on_message(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except MalformedMessage as error:
            reason = f"it sent what can't be read: {error}"
        if reason:
            self.kill()
        await self._ended(process, reason)

    def _look(self, message: Any) -> None:
        match message:
            case Ready():
                self.ready = message
                if self._started and not self._started.done():
                    self._started.set_result(None)
            case Stats() if message.call_age_s > self.config.hang_after_s:
                logger.error("a call of engine process %s hangs; it is ended", self.pid)
                self.kill()

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        limit = self.config.hang_after_s
        while process.returncode is None:
            await asyncio.sleep(min(1.0, limit / 4))
            if self.ready is not None and asyncio.get_running_loop().time() - self._heard_at > limit:
                logger.error("engine process %d has said nothing for %.1f s and is ended", process.pid, limit)
                self.kill()
                return

    async def _ended(self, process: asyncio.subprocess.Process, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
        try:
            code = await asyncio.wait_for(process.wait(), 5.0)
        except TimeoutError:
            self.kill()
            code = await process.wait()
        self._process, self._writer, self.ready = None, None, None
        started = self._started
        came_up = started is not None and started.done() and started.exception() is None
        gone = Gone(code, reason, is_unasked=came_up and not self._stopping)
        if started is not None and not started.done():
            started.set_exception(gone.error)
        self._tasks[-1].cancel()
        self._on_gone(gone)

    async def _wait_gone(self) -> None:
        await asyncio.wait(self._tasks)
