"""Keeps the leases alive of what is in hand, and lets go of what was lost or is not wanted any more."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence

from videogen.errors import StoreUnavailable, VideogenError
from videogen.serving.making.workload import Workload
from videogen.serving.store_calls import Call
from videogen.store.records import Claim
from videogen.store.store import Store

logger = logging.getLogger(__name__)


class Leases:
    """One replica's, of `lease_s` seconds each."""

    def __init__(self, store: Store, call: Call, work: Workload, lease_s: float) -> None:
        self.store, self.call, self.work, self.lease_s = store, call, work, lease_s
        self._looks: dict[str, bool] = {}
        """Generations that are being looked at: is each to be looked at again?"""

    async def keep(self) -> None:
        """Renews them, with how far each is, for ever."""
        while True:
            await asyncio.sleep(self.lease_s / 5)
            if held := self.work.leased:
                claims = [one.claim for one in held]
                await self._renew(claims, {one.claim.generation: one.progress for one in held})

    async def _renew(self, claims: Sequence[Claim], progress: dict[str, float]) -> None:
        try:
            renewal = await self.call(lambda: self.store.renew(claims, progress))
        except VideogenError as error:
            logger.warning("leases could not be renewed: %s", error)
            return
        dropped = [claim for claim in (*renewal.lost, *renewal.unwanted) if self.work.drop(claim)]
        await self.release([claim for claim in dropped if claim in renewal.unwanted])

    async def look(self, generation: str) -> None:
        """Lets go of a generation at once if nobody wants its video any more; else it is as urgent as those who do.

        Asked again while it looks, it looks once more, however often.
        """
        if generation in self._looks:
            self._looks[generation] = True
            return
        self._looks[generation] = True
        try:
            while self._looks[generation]:
                self._looks[generation] = False
                await self._look(generation)
        finally:
            del self._looks[generation]

    async def _look(self, generation: str) -> None:
        for held in [one for one in self.work.in_hand.values() if one.claim.generation == generation]:
            claim, known = held.claim, held.asked
            with contextlib.suppress(StoreUnavailable):
                renewal = await self.call(lambda claim=claim: self.store.renew([claim]))
                if renewal.unwanted and self.work.drop(claim):
                    self.work.hand_back([held], "nobody wants it any more")
                    if held.lent is None:
                        await self.release([claim])
                elif held.lent is None:
                    waiting = await self.call(lambda claim=claim: self.store.awaiting(claim.generation))
                    if waiting and self.work.in_hand.get(claim.request.id) is held:
                        self.work.left_by(held, known, waiting)

    async def release(self, claims: Sequence[Claim]) -> None:
        """Gives leases back unused; where the store is away, they run out."""
        try:
            if claims:
                await self.call(lambda: self.store.release(claims))
        except VideogenError as error:
            logger.warning("leases could not be given back: %s", error)
