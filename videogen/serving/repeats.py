"""While nothing is asked: videos that will probably be asked for again, and that the cache does not have.

A video is found again by its parameters, its seed and its version, so these are the requests that came again and again
with their seed before another version became champion, or whose video has expired. Nothing else could be guessed.
"""

import asyncio
import contextlib
import logging

from videogen.errors import VideogenError
from videogen.requests import UNGATED, AcceptedRequest
from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.service import Service
from videogen.serving.wishes import AHEAD, Wish, Wishes

logger = logging.getLogger(__name__)


class Repeats:
    """One replica's. It makes one video at a time, of class batch, once nothing was asked for `quiet_s`.

    What is asked stops it at the next step boundary. Of a version that passed no gates it makes nothing. A tenant's
    videos are its own, so each is made in its tenant's name, and hidden from its lists.
    """

    def __init__(self, service: Service, wishes: Wishes, *, quiet_s: float = 5.0, look_s: float = 1.0) -> None:
        self.service, self.wishes, self.quiet_s, self.look_s = service, wishes, quiet_s, look_s
        self.made = 0

    async def run(self) -> None:
        """Looks, and makes, until it is cancelled."""
        while True:
            await asyncio.sleep(self.look_s)
            with contextlib.suppress(VideogenError):
                if (wish := await self._next()) is not None:
                    await self._make(wish)

    @property
    def _is_idle(self) -> bool:
        work, quiet = self.service.work, self.wishes.quiet_s >= self.quiet_s
        return quiet and self.service.readiness.ready and not (work.in_hand or work.publishing)

    async def _next(self) -> Wish | None:
        for wish in self.wishes.likely(idle=self._is_idle):
            accepted = self._accept(wish)
            if accepted is not None and not await self._is_there(accepted):
                return wish if self._is_idle else None
        return None

    def _accept(self, wish: Wish) -> AcceptedRequest | None:
        """As it would be accepted now; None for a version that may not write what others share."""
        try:
            accepted = self.service.versions.accept(wish.fields, wish.tenant)
            return None if accepted.fingerprint.startswith(UNGATED) else accepted
        except VideogenError:  # another version may not know its words or its size
            return None

    async def _is_there(self, accepted: AcceptedRequest) -> bool:
        return await self.service.maker.call(lambda: self.service.store.is_answered(accepted))

    async def _make(self, wish: Wish) -> None:
        caller = Caller(wish.tenant, AHEAD, frozenset({"user"}))
        self.wishes.came.clear()
        job = await self.service.submit({**wish.fields, "priority": "batch"}, caller)
        making = asyncio.create_task(self._end_of(job, caller))
        stopping = asyncio.create_task(self.wishes.came.wait())
        try:
            await asyncio.wait((making, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            making.cancel()
            await self.service.delete(job.id, caller)

    async def _end_of(self, job: VideoJob, caller: Caller) -> None:
        async for last in self.service.watch(job.id, caller, with_place=False):
            if last.status == "completed":
                self.made += 1
                logger.info("made before it is asked for again: %s", job.id)
