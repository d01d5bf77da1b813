"""Follows the champion pointer: a new version is admitted once it answers; the one before it stays warm."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from videogen.errors import InvalidRequest, StoreUnavailable, VideogenError
from videogen.resolve import champion_of
from videogen.serving.making.maker import Maker
from videogen.serving.versions.bringing import Bringer, TookItsPlace
from videogen.serving.versions.preparing import Prepared
from videogen.serving.versions.retrying import Patience, Retries
from videogen.serving.versions.served import ServedVersion
from videogen.store.records import Json

logger = logging.getLogger(__name__)
LOOK_S = 2.0


class Swapper:
    """One model's. `prepare` gives what a reference stands for by now; it and `Bringer`'s `fits` run in threads.

    `patience` is for a champion that could not be served.
    """

    def __init__(
        self,
        maker: Maker,
        model: str,
        prepare: Callable[[str], Prepared],
        fits: Callable[[str, Collection[str], int], bool],
        patience: Patience | None = None,
    ) -> None:
        self.maker, self.model, self.prepare = maker, model, prepare
        self.bringer = Bringer(maker, fits)
        self.generation = 0
        self.failed: str | None = None
        """Why the pointer's version is not served, None if it is."""
        self.retries = Retries(patience)
        self._before: str | None = None
        self._turn = asyncio.Lock()

    async def follow(self) -> None:
        """Looks at the pointer, for ever; cancel it to stop."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
                await self.let_go()
            except VideogenError as error:
                logger.warning("the champion cannot be looked up: %s", error)

    async def look(self) -> None:
        """Follows the pointer if it moved. A version that fails leaves the old one in service, and is tried again."""
        generation = await self.maker.call(lambda: self.maker.store.champion_generation(self.model))
        if generation != self.generation:
            self.retries.over()
        elif not self.retries.is_due:
            return
        try:
            await self.reload()
        except VideogenError as error:
            if isinstance(error, StoreUnavailable):
                raise
            told = self.retries.failed(may_again=not isinstance(error, TookItsPlace))
            self.failed = f"the champion is not served: {error}; {told}"
            current = self.maker.versions.current
            logger.error("%s; %s goes on", self.failed, current and current.label)
        self.generation = generation

    async def reload(self) -> Mapping[str, Json]:
        """Serves the pointer's version, whether or not that failed before. Raises as `swap`."""
        told = await self.swap(self.model)
        self.failed = None
        self.retries.over()
        return told

    async def swap(self, reference: str) -> Mapping[str, Json]:
        """Admits the version that `reference` stands for, once it is loaded, warm and answers.

        Raises InvalidRequest or EngineError, and then everything stays as it was.
        """
        async with self._turn:
            started, before = time.monotonic(), self.maker.versions.current
            try:
                chosen = await self.maker.call(lambda: champion_of(reference, self.maker.store))
                if before is not None and chosen.version_digest == before.version_digest:
                    return self._told(before, *self._took(started))
                version = self.maker.versions.loaded.get(chosen.version_digest)
                if version is None:
                    version, to_load = await self.maker.call(lambda: self.prepare(reference))
                    await self.bringer.bring(version, to_load, before)
            except VideogenError:
                self.maker.observer.swapped(False, time.monotonic() - started, 0.0)
                raise
            self.maker.versions.admit(version)
            self.maker.wake()
            self._before = before.version_digest if before else None
            seconds, gap_s = self._took(started)
            self.maker.observer.swapped(True, seconds, gap_s)
            logger.info("%s is served, %s before it; loaded in %.1f s", version.label, before and before.label, seconds)
            return self._told(before, seconds, gap_s)

    async def rollback(self) -> Mapping[str, Json]:
        """Moves the champion pointer back, and follows it. Raises RecordNotFound if there is nothing before it."""
        started, before = time.monotonic(), self.maker.versions.current
        await self.maker.call(lambda: self.maker.store.rollback(self.model))
        await self.look()
        if self.failed:
            raise InvalidRequest("model", self.model, f"a champion that can be served: {self.failed}")
        return self._told(before, *self._took(started))

    async def let_go(self) -> None:
        """Unloads what is neither admitted nor the one before it, once nobody waits for anything of it."""
        async with self._turn:
            await self.bringer.let_go(self._before)

    def _told(self, before: ServedVersion | None, seconds: float, gap_s: float) -> Mapping[str, Json]:
        now = self.maker.versions.current
        return {
            "before": before.label if before else None,
            "serving": now.label if now else None,
            "seconds": round(seconds, 3),
            "longest_gap_s": round(gap_s, 3),
        }

    def _took(self, started: float) -> tuple[float, float]:
        """The seconds since then, and the longest of them without a step."""
        gap_s = self.maker.speed.longest_gap(since=started)
        return time.monotonic() - started, gap_s
