"""While nothing is asked: videos that will probably be asked for again, and that the cache does not have.

A video is found again by its parameters, its seed and its version, so these are the requests that came again and again
with their seed before another version became champion, or whose video has expired. Nothing else could be guessed.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from videogen.errors import VideogenError
from videogen.requests import AcceptedRequest
from videogen.scheduling.ahead import likely_repeats
from videogen.scheduling.forecast import Forecast
from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.service import Service
from videogen.serving.views import UNGATED

logger = logging.getLogger(__name__)
KEY_ID = "made ahead"
"""Instead of an API key's, in the name of whoever will probably ask."""
ASKERS_OWN = ("tenant", "lane", "priority", "deadline", "metadata")
"""Fields that say nothing of the video."""
MEMORY_S, HORIZON_S = 3600.0, 600.0
"""How long an arrival counts, and in which time a repeat has to be probable."""
MOST, MOST_LOOKED = 1000, 16
"""Requests that are remembered, and how many of the likeliest are looked up at once."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a tenant asks for, without what says nothing of the video."""

    tenant: str
    fields: Mapping[str, Any]


class Repeats:
    """One replica's. It makes one video at a time, of class batch, once nothing was asked for `quiet_s`.

    What is asked stops it at the next step boundary. Of a version that passed no gates it makes nothing. A tenant's
    videos are its own, so each is made in its tenant's name, and hidden from its lists. `clock` in seconds.
    """

    def __init__(
        self,
        service: Service,
        *,
        quiet_s: float = 5.0,
        look_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service, self.quiet_s, self.look_s, self.clock = service, quiet_s, look_s, clock
        self.made = 0
        self._forecast = Forecast(MEMORY_S, most=MOST)
        self._asked: OrderedDict[str, Wish] = OrderedDict()
        self._last = clock()
        self._stop = asyncio.Event()

    def asked(self, fields: Mapping[str, Any], caller: Caller) -> None:
        """Somebody asked for a video, as `Service.submit` takes it."""
        if caller.key_id == KEY_ID:
            return
        self._last = self.clock()
        self._stop.set()
        if fields.get("seed") is None:
            return  # its seed was drawn: nobody can ask for the same
        own = {name: value for name, value in fields.items() if name not in ASKERS_OWN}
        name = json.dumps([caller.tenant, own], sort_keys=True, default=str)
        self._forecast.arrived(name, self._last)
        self._asked[name] = Wish(caller.tenant, own)
        self._asked.move_to_end(name)
        if len(self._asked) > MOST:
            self._asked.popitem(last=False)

    async def run(self) -> None:
        """Looks, and makes, until it is cancelled."""
        while True:
            await asyncio.sleep(self.look_s)
            with contextlib.suppress(VideogenError):
                if (wish := await self._next()) is not None:
                    await self._make(wish)

    @property
    def _is_idle(self) -> bool:
        maker = self.service.maker
        quiet = self.clock() - self._last >= self.quiet_s
        return quiet and self.service.ready and not (maker.in_hand or maker.publishing)

    async def _next(self) -> Wish | None:
        now, idle = self.clock(), self._is_idle
        likely = likely_repeats(
            self._forecast, self._asked, (), now, idle=idle, allowed=True, horizon_s=HORIZON_S, most=MOST_LOOKED
        )
        for name in likely:
            wish = self._asked[name]
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
        caller = Caller(wish.tenant, KEY_ID, frozenset({"user"}))
        self._stop.clear()
        job = await self.service.submit({**wish.fields, "priority": "batch"}, caller)
        making = asyncio.create_task(self._end_of(job, caller))
        stopping = asyncio.create_task(self._stop.wait())
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
