"""Takes from the queue what the device will soon be free for."""

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable

from videogen.errors import VideogenError
from videogen.serving.making.in_hand import Making
from videogen.serving.store_calls import Call
from videogen.store.records import Claim
from videogen.store.store import Store

logger = logging.getLogger(__name__)
MOST_AT_ONCE = 16


class Claimer:
    """One replica's, `holder`. It is woken by what enters the queue here; other replicas' clients fill it too."""

    def __init__(self, store: Store, call: Call, holder: str, limits: Making) -> None:
        self.store, self.call, self.holder, self.limits = store, call, holder, limits
        self._wake, self._looking = asyncio.Event(), asyncio.Lock()
        self._was_full = True
        """Was there no room when the queue was looked at last?"""
        self.saw_none = True
        """Is nobody known to wait in the queue? Whoever comes now is then the first in it."""
        self._looks = itertools.count()

    def wake(self) -> None:
        """Something was queued here just now."""
        self.saw_none = False
        self._wake.set()

    def has_room(self) -> None:
        """A place has become free; the queue is looked at if something may have waited for that."""
        if self._was_full:
            self._wake.set()

    async def run(
        self, room: Callable[[], int], versions: Callable[[], Iterable[str]], take: Callable[[list[Claim]], None]
    ) -> None:
        """Claims of `versions` as much as there is `room` for, for ever; `take` is called after each look."""
        pause, slowest = self.limits.poll_s
        while True:
            found: list[Claim] = []
            self._wake.clear()  # before the look, which may miss what comes meanwhile
            async with self._looking:
                try:
                    most = room()
                    self._was_full = most <= 0
                    self.saw_none &= most > 0
                    if most > 0:
                        found = await self._look(min(most, MOST_AT_ONCE), list(versions()), take)
                        self.saw_none = not found and not self._wake.is_set()
                except VideogenError as error:  # one damaged record must not end the claiming of others
                    logger.warning("nothing can be claimed: %s", error)
                    await asyncio.sleep(slowest)
                take(found)
            if found:
                pause = self.limits.poll_s[0]
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause)
            pause = min(2 * pause, slowest)

    async def looked(self) -> None:
        """Waits for the look that is under way, so that what it claims is taken."""
        async with self._looking:
            pass

    async def _look(self, most: int, digests: list[str], take: Callable[[list[Claim]], None]) -> list[Claim]:
        """What is claimed. Cancelled meanwhile, it is taken all the same: a lease that nobody knows of runs out."""
        looking = asyncio.ensure_future(self.call(lambda: self._claim(most, digests)))
        try:
            return await asyncio.shield(looking)
        except asyncio.CancelledError:
            take(await looking)
            raise

    def _claim(self, most: int, digests: list[str]) -> list[Claim]:
        """Each look begins with another version, so that one of which much is asked keeps no other waiting."""
        first = next(self._looks) % max(1, len(digests))
        for digest in digests[first:] + digests[:first]:
            if found := self.store.claim_lane("interactive", self.holder, self.limits.lease_s, most, digest):
                return found
        return []
