"""Tells the other replicas on the store what this one serves, and ends what none of them serves."""

import asyncio
import logging
import time
from collections.abc import Callable

from videogen.errors import VideogenError
from videogen.serving.store_calls import Call
from videogen.store.records import RequestRecord
from videogen.store.servers import LIVE_S, Server
from videogen.store.store import Store

logger = logging.getLogger(__name__)


class Presence:
    """One replica's. `stands` gives how it does now; it is called where the store is called.

    A request fails that has waited for `unserved_s` seconds, if no replica had its version for as long as that.
    """

    def __init__(self, store: Store, stands: Callable[[], Server], unserved_s: float) -> None:
        self.store, self.stands, self.unserved_s = store, stands, unserved_s
        self._unserved_since: dict[str, float] = {}

    async def keep(self, call: Call) -> None:
        """Tells and looks, for ever; `call` runs what asks the store."""
        looked_at = time.monotonic()
        while True:
            try:
                await call(self.tell)
                if time.monotonic() - looked_at > self.unserved_s / 10:
                    looked_at = time.monotonic()
                    await call(self.end_unserved)
            except VideogenError as error:
                logger.warning("other replicas are told nothing: %s", error)
            await asyncio.sleep(min(LIVE_S / 4, self.unserved_s / 10))

    def tell(self) -> None:
        self.store.servers.tell(self.stands())

    def end_unserved(self) -> None:
        """Fails what has waited too long for a version that nobody serves."""
        now, overdue = time.monotonic(), self.store.overdue("interactive", self.unserved_s)
        served = (
            frozenset[str]().union(*(one.versions for one in self.store.servers.live())) if overdue else frozenset()
        )
        waiting = [record for record in overdue if served.isdisjoint(_served_as(record))]
        since = {record.version_digest: now for record in waiting}
        self._unserved_since = {digest: self._unserved_since.get(digest, at) for digest, at in since.items()}
        for record in waiting:
            if now - self._unserved_since[record.version_digest] >= self.unserved_s:
                self._fail(record.id, record.label)

    def _fail(self, request_id: str, label: str) -> None:
        for claim in self.store.claim([request_id], self.stands().name, LIVE_S, 1):
            logger.warning("request %s fails: %s is not served any more", request_id, label)
            self.store.fail(claim, f"{label} is not served any more: submit the request again", retry=False)


def _served_as(record: RequestRecord) -> frozenset[str]:
    return frozenset({record.version_digest}) if record.accepted is None else record.accepted.served_as
