"""Brings versions into the engine process and out of it: beside the old one or, without room for both, in its place."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from videogen.errors import (
    EngineError,
    EngineUnavailable,
    InvalidRequest,
    RecordDamaged,
    RecordNotFound,
    StoreConflict,
    StoreError,
    VideogenError,
)
from videogen.serving.engine.messages import VersionToLoad
from videogen.serving.making.maker import Maker
from videogen.serving.store_calls import patiently
from videogen.serving.versions.probing import probe
from videogen.serving.versions.served import ServedVersion
from videogen.store.servers import LIVE_S

logger = logging.getLogger(__name__)
PROBE_S, PROBE_TIMES = 30.0, 10
"""For the first videos of a version, however busy the device is: seconds, and times what the steps of one take."""
DRAIN_S = 600.0
"""For what an old version still has, where there is no room for a new one beside it."""
PAUSE_S = (0.1, 30.0)
"""Between tries to free or to load a version again, growing."""
PATIENCE_S = 30.0
"""For how long the store may be away when it is to tell who waits, or to hand back what was accepted."""
PAGE = 1000
"""Requests that are looked at in one go."""


class TookItsPlace(EngineUnavailable):
    """A version that cannot be served had taken the place of the old one, which is served again by now."""


class Bringer:
    """One replica's.

    `fits` tells whether there is memory for a version, by its digest, beside those that are loaded in a process.
    """

    def __init__(self, maker: Maker, fits: Callable[[str, Collection[str], int], bool]) -> None:
        self.maker, self.fits = maker, fits

    async def bring(self, version: ServedVersion, to_load: VersionToLoad, before: ServedVersion | None) -> None:
        """Loads a version, which then answers. If it does not, raises VideogenError: the old one is there as before."""
        if not await self._has_room(version.version_digest):
            await self.let_go(None)
        if before is None or await self._has_room(version.version_digest):
            await self._load(version, to_load)
        else:
            await self._replace(before, version, to_load)

    async def let_go(self, kept: str | None) -> None:
        """Frees what is neither admitted nor `kept`, once nobody waits for anything of it."""
        versions = self.maker.versions
        current = versions.current.version_digest if versions.current else None
        for digest in [one for one in versions.loaded if one not in (kept, current)]:
            if not await self._is_needed(digest):
                versions.drop(digest)
                await self._unload(digest)

    async def _has_room(self, digest: str) -> bool:
        loaded, pid = tuple(self.maker.versions.loaded), self.maker.engine.pid
        return pid is None or await self.maker.call(lambda: self.fits(digest, loaded, pid))

    async def _load(self, version: ServedVersion, to_load: VersionToLoad) -> None:
        await self.maker.reviver.load(to_load)
        try:
            await self._probe(version)
        except VideogenError:
            await self._unload(version.version_digest)
            raise

    async def _probe(self, version: ServedVersion) -> None:
        """Time in which somebody else has the device for itself is not the version's."""
        limit_s = PROBE_S + PROBE_TIMES * version.spec.num_inference_steps * self.maker.speed.step_s
        while True:
            try:
                return await probe(self.maker.engine, version, limit_s)
            except TimeoutError as error:
                if self.maker.stats is None or not self.maker.stats.yielded:
                    raise EngineUnavailable(f"{version.label}: no first video within {limit_s:.0f} s") from error

    async def _replace(self, old: ServedVersion, version: ServedVersion, to_load: VersionToLoad) -> None:
        """The old version makes what it has, then goes; new requests wait for the new one meanwhile."""
        logger.warning("there is no room for %s beside %s, which ends first", version.label, old.label)
        self.maker.versions.current = version
        try:
            await self._drain(old)
        except VideogenError:
            self.maker.versions.current = old
            await self._take_over(old, version)
            raise
        try:
            await self._exchange(old, version, to_load)
        except TookItsPlace:
            await self._take_over(old, version)
            raise

    async def _exchange(self, old: ServedVersion, version: ServedVersion, to_load: VersionToLoad) -> None:
        """Neither is there meanwhile. Raises TookItsPlace if the new one fails, once the old one is loaded again."""
        old_to_load = self.maker.reviver.to_load[old.version_digest]
        self.maker.versions.drop(old.version_digest)
        self.maker.work.down = f"{version.label} is loaded in the place of {old.label}: there is no room for both"
        try:
            await self._unload(old.version_digest)
            await self._load(version, to_load)
        except VideogenError as error:
            await self._restore(old, old_to_load)
            raise TookItsPlace(str(error)) from error
        finally:
            self.maker.work.down = None  # before the old one takes over what waits for the new one: that can last

    async def _drain(self, old: ServedVersion) -> None:
        """Raises TookItsPlace if it takes too long, EngineUnavailable if the store cannot tell who waits."""
        try:
            async with asyncio.timeout(DRAIN_S):
                looks = 0
                while looks < 2:  # between two may enter the store what was accepted just before
                    is_needed = await patiently(lambda: self._is_needed(old.version_digest), PATIENCE_S)
                    looks = 0 if is_needed else looks + 1
                    await asyncio.sleep(PAUSE_S[0])
        except TimeoutError as error:
            raise TookItsPlace(f"{old.label} had work for more than {DRAIN_S:.0f} s") from error
        except StoreError as error:
            raise EngineUnavailable(f"it cannot be told whether {old.label} has work: {error}") from error

    async def _restore(self, old: ServedVersion, to_load: VersionToLoad) -> None:
        pause, slowest = PAUSE_S
        while True:
            try:
                await self.maker.reviver.load(to_load)
                self.maker.versions.admit(old)
                return
            except EngineError as error:
                logger.error("%s cannot be loaded again yet: %s", old.label, error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, slowest)

    async def _take_over(self, old: ServedVersion, failed: ServedVersion) -> None:
        """What was accepted for `failed` by the model's name meanwhile is made by `old`, unless others serve it.

        Of replicas that fail at once, each tells that it does not serve it before it looks, and the last one takes all.
        """
        looks, ends = 0, time.monotonic() + LIVE_S
        try:
            await patiently(lambda: self.maker.call(self.maker.presence.tell), PATIENCE_S)
            while looks < 2:  # between two may enter the store what was accepted just before
                moved = await patiently(lambda: self.maker.call(lambda: self._moved(old, failed)), PATIENCE_S)
                for request_id in moved or ():
                    self.maker.changes.tell(request_id)
                self.maker.wake()
                looks = 0 if moved or (moved is None and time.monotonic() < ends) else looks + 1
                await asyncio.sleep(PAUSE_S[0])
        except VideogenError as error:
            logger.error("what waits for %s goes on waiting for it: %s", failed.label, error)

    def _moved(self, old: ServedVersion, failed: ServedVersion) -> list[str] | None:
        """None while another replica tells that it serves `failed`. Where the store is called."""
        store, moved, kept = self.maker.store, list[str](), set[str]()
        others = [one for one in store.servers.live() if one.name != self.maker.holder]
        if any(failed.served_as in one.versions for one in others):
            return None
        while found := [
            record
            for record in store.waiting("interactive", len(kept) + PAGE, failed.version_digest)
            if record.id not in kept
        ]:
            for record in found:
                try:
                    moved.append(store.transfer(record.id, old.again).id)
                except (InvalidRequest, RecordDamaged, RecordNotFound, StoreConflict):
                    kept.add(record.id)
        return moved

    async def _is_needed(self, digest: str) -> bool:
        """Does anybody wait for a version, wherever it is made, or is anything of it in hand here?"""
        maker = self.maker
        return maker.work.has_of(digest) or await maker.call(lambda: maker.store.is_awaited(digest))

    async def _unload(self, digest: str) -> None:
        """Frees a version; what was cancelled of it ends first, at its next boundary."""
        pause, slowest = PAUSE_S
        while True:
            try:
                await self.maker.unload(digest)
                return
            except EngineError as error:
                if not self.maker.engine.alive:
                    return
                if pause > slowest:
                    logger.error("version %s stays loaded: %s", digest[:12], error)
                    return
                await asyncio.sleep(pause)
                pause *= 2
