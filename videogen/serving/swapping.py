"""Follows the champion pointer: a new version is admitted once it answers; the one before it stays warm."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from videogen.errors import EngineError, EngineUnavailable, InvalidRequest, StoreUnavailable, VideogenError
from videogen.resolve import champion_of
from videogen.serving.engine.messages import VersionToLoad
from videogen.serving.making import Maker
from videogen.serving.preparing import Prepared
from videogen.serving.probing import probe
from videogen.serving.versions import ServedVersion
from videogen.store.records import Json

logger = logging.getLogger(__name__)
LOOK_S = 2.0
PROBE_S = 30.0
"""For the first videos of a version, however busy the device is."""
DRAIN_S = 600.0
"""For what an old version still has, where there is no room for a new one beside it."""
PAUSE_S = (0.1, 30.0)
"""Between tries to free or to load a version again, growing."""


class Swapper:
    """One model's. `prepare` gives what a reference stands for by now; both run in the maker's threads.

    `fits` tells whether there is memory for a version, by its digest, beside those that are loaded in a process.
    """

    def __init__(
        self,
        maker: Maker,
        model: str,
        prepare: Callable[[str], Prepared],
        fits: Callable[[str, Collection[str], int], bool],
    ) -> None:
        self.maker, self.model, self.prepare, self.fits = maker, model, prepare, fits
        self.generation = 0
        self.failed: str | None = None
        """Why the pointer's version is not served, None if it is."""
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
        """Follows the pointer if it moved. A version that fails to load leaves the old one in service."""
        generation = await self.maker.call(lambda: self.maker.store.champion_generation(self.model))
        if generation == self.generation:
            return
        try:
            await self.swap(self.model)
            self.failed = None
        except VideogenError as error:
            if isinstance(error, StoreUnavailable):
                raise
            self.failed = f"the champion is not served: {error}"
            logger.error("%s; %s goes on", self.failed, self.maker.versions.current)
        self.generation = generation

    async def swap(self, reference: str) -> Mapping[str, Json]:
        """Admits the version that `reference` stands for, once it is loaded, warm and answers.

        Raises InvalidRequest or EngineError, and then everything stays as it was.
        """
        async with self._turn:
            started, before = time.monotonic(), self.maker.versions.current
            try:
                chosen = await self.maker.call(lambda: champion_of(reference, self.maker.store))
                if before is not None and chosen.version_digest == before.version_digest:
                    return self._told(started, before.label)
                version = self.maker.versions.loaded.get(chosen.version_digest)
                if version is None:
                    version, to_load = await self.maker.call(lambda: self.prepare(reference))
                    await self._bring(version, to_load, before)
            except VideogenError:
                self.maker.observer.swapped(False, time.monotonic() - started, 0.0)
                raise
            self.maker.versions.admit(version)
            self.maker.wake()
            self._before = before.version_digest if before else None
            seconds = time.monotonic() - started
            self.maker.observer.swapped(True, seconds, self.maker.longest_gap(since=started))
            logger.info("%s is served, %s before it; loaded in %.1f s", version.label, before and before.label, seconds)
            return self._told(started, version.label)

    async def rollback(self) -> Mapping[str, Json]:
        """Moves the champion pointer back, and follows it. Raises RecordNotFound if there is nothing before it."""
        await self.maker.call(lambda: self.maker.store.rollback(self.model))
        await self.look()
        if self.failed:
            raise InvalidRequest("model", self.model, f"a champion that can be served: {self.failed}")
        current = self.maker.versions.current
        return {"serving": current.label if current else None}

    async def let_go(self) -> None:
        """Unloads what is neither admitted nor the one before it, once nobody waits for anything of it."""
        async with self._turn:
            await self._let_go(self._before)

    # Inside

    async def _bring(self, version: ServedVersion, to_load: VersionToLoad, before: ServedVersion | None) -> None:
        """Loads a version beside the old one or, where there is no room for both, in its place."""
        if not await self._has_room(version.version_digest):
            await self._let_go(None)
        if before is None or await self._has_room(version.version_digest):
            await self._load(version, to_load)
        else:
            await self._replace(before, version, to_load)

    async def _has_room(self, digest: str) -> bool:
        loaded, pid = tuple(self.maker.versions.loaded), self.maker.engine.pid
        return pid is None or await self.maker.call(lambda: self.fits(digest, loaded, pid))

    async def _load(self, version: ServedVersion, to_load: VersionToLoad) -> None:
        await self.maker.load(version, to_load)
        try:
            await probe(self.maker.engine, version, PROBE_S)
        except EngineError:
            await self._unload(version.version_digest)
            raise

    async def _replace(self, old: ServedVersion, version: ServedVersion, to_load: VersionToLoad) -> None:
        """The old version makes what it has, then goes; new requests wait for the new one meanwhile."""
        versions = self.maker.versions
        _, old_to_load = await self.maker.call(lambda: self.prepare(old.label))
        logger.warning("there is no room for %s beside %s, which ends first", version.label, old.label)
        versions.current = version
        try:
            async with asyncio.timeout(DRAIN_S):
                looks = 0
                while looks < 2:  # between two may enter the store what was accepted just before
                    looks = 0 if await self._is_needed(old.version_digest) else looks + 1
                    await asyncio.sleep(PAUSE_S[0])
        except TimeoutError as error:
            versions.current = old
            raise EngineUnavailable(f"{old.label} had work for more than {DRAIN_S:.0f} s") from error
        versions.drop(old.version_digest)
        self.maker.down = f"{version.label} is loaded in the place of {old.label}: there is no room for both"
        try:
            await self._unload(old.version_digest)
            await self._load(version, to_load)
        except EngineError:
            await self._restore(old, old_to_load)
            raise
        finally:
            self.maker.down = None

    async def _restore(self, old: ServedVersion, to_load: VersionToLoad) -> None:
        pause, slowest = PAUSE_S
        while True:
            try:
                await self.maker.load(old, to_load)
                self.maker.versions.admit(old)
                return
            except EngineError as error:
                logger.error("%s cannot be loaded again yet: %s", old.label, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, slowest)

    async def _let_go(self, kept: str | None) -> None:
        versions = self.maker.versions
        current = versions.current.version_digest if versions.current else None
        for digest in [one for one in versions.loaded if one not in (kept, current)]:
            if not await self._is_needed(digest):
                versions.drop(digest)
                await self._unload(digest)

    async def _is_needed(self, digest: str) -> bool:
        """Does anybody wait for a version, wherever it is made, or is anything of it in hand here?"""
        maker = self.maker
        if any(held.claim.request.version_digest == digest for held in maker.in_hand.values()):
            return True
        return await maker.call(lambda: maker.store.is_awaited(digest))

    async def _unload(self, digest: str) -> None:
        """Frees a version; what was cancelled of it ends first, at its next boundary."""
        pause, slowest = PAUSE_S
        while self.maker.engine.alive:
            try:
                await self.maker.unload(digest)
                return
            except EngineError as error:
                if pause > slowest:
                    logger.error("version %s stays loaded: %s", digest[:12], error)
                    return
                await asyncio.sleep(pause)
                pause *= 2

    def _told(self, started: float, label: str) -> Mapping[str, Json]:
        return {"serving": label, "seconds": round(time.monotonic() - started, 3)}
