"""Starts the engine process, and its successor when it dies, with all versions that were loaded."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from videogen.errors import EngineError, EngineUnavailable
from videogen.serving.engine.messages import Loaded, VersionToLoad
from videogen.serving.engine_process import EngineProcess
from videogen.serving.making.in_hand import Making


class Reviver:
    """One engine process's. `tell` hears why a successor cannot be started yet.

    One that dies young without having made a video is followed later each time, as `limits` have it.
    """

    def __init__(self, engine: EngineProcess, limits: Making, tell: Callable[[str], None]) -> None:
        self.engine, self.limits, self.tell = engine, limits, tell
        self.to_load: dict[str, VersionToLoad] = {}
        """What each process loads, by digest."""
        self.restarts = 0
        self.has_made = False
        """Has the process that is there made a video?"""
        self._is_up = False
        self._started_at = 0.0
        self._deaths = 0

    async def start(self, to_load: VersionToLoad) -> Loaded:
        """Starts the first process. Raises EngineError; it is then to be stopped."""
        self.to_load = {to_load.version_digest: to_load}
        await self.engine.start()
        loaded = await self.engine.load(to_load)
        self._came_up()
        return loaded

    async def load(self, to_load: VersionToLoad) -> None:
        """Loads a further version beside those that are there; it is not admitted yet. Raises EngineError."""
        await self.engine.load(to_load)
        self.to_load[to_load.version_digest] = to_load

    async def unload(self, digest: str) -> None:
        """Raises EngineError."""
        self.to_load.pop(digest, None)
        await self.engine.unload(digest)

    def died(self) -> bool:
        """The process ended. Is it to be revived? Of one that was not up yet, whoever starts it hears by itself."""
        was_up, self._is_up = self._is_up, False
        return was_up

    async def revive(self) -> None:
        """Starts successors until one is up."""
        died_young = not self.has_made and time.monotonic() - self._started_at < self.limits.young_s
        self._deaths, self.has_made = self._deaths + 1 if died_young else 1, False
        first, longest = self.limits.restart_s
        while not self._is_up:
            await asyncio.sleep(min(longest, first * 2 ** (self._deaths - 1)))
            try:
                await self.engine.start()
                for to_load in list(self.to_load.values()):
                    await self._load_again(to_load)
                self._came_up()
            except EngineError as error:
                self._deaths += 1
                self.tell(f"the engine process cannot be started: {error}")
                await self.engine.stop(0)
        self.restarts += 1

    async def _load_again(self, to_load: VersionToLoad) -> None:
        """Unless it was, or meanwhile is, let go."""
        digest = to_load.version_digest
        if digest in self.to_load:
            await self.engine.load(to_load)
        if digest not in self.to_load:
            with contextlib.suppress(EngineError):  # it is freed already, or the process has ended: see `_came_up`
                await self.engine.unload(digest)

    def _came_up(self) -> None:
        if not self.engine.alive:
            raise EngineUnavailable("the engine process ended as soon as it was loaded")
        self._is_up, self._started_at = True, time.monotonic()
