"""Which services live on this store: each tells every few seconds what it serves and how fast its device is."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from videogen.store.primitives import MapIs, MapPut, MapRemove, RecordStore, Write

LIVE_S = 10.0
"""A service that has told nothing for this long is taken for dead."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Server:
    """`versions`: digests of what it serves. `per_second`: videos that its device makes with enough to do."""

    name: str
    versions: frozenset[str]
    per_second: float


class Servers:
    """One record, whose map has an entry for each service; it goes when none has told anything for a while."""

    kind = "servers"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def tell(self, server: Server) -> None:
        """It lives, and stands so."""
        told = {"at": self.records.now(), "versions": sorted(server.versions), "per_second": server.per_second}
        self.records.write(Write(self.kind, ALL, (MapPut(server.name, json.dumps(told)),), ttl=10 * LIVE_S))

    def leave(self, name: str) -> None:
        """It ends."""
        self.records.write(Write(self.kind, ALL, (MapRemove(name),), create="never"))

    def live(self) -> list[Server]:
        """Those that live; what a dead one left is removed."""
        now, found, dead = self.records.now(), [], []
        for name, text in self._entries():
            server, at = _read(name, text)
            if now - at < LIVE_S:
                found.append(server)
            else:
                dead.append(Write(self.kind, ALL, (MapRemove(name),), "never", MapIs(name, text)))
        if dead:
            self.records.write_many(dead)
        return found

    def _entries(self) -> Iterator[tuple[str, str]]:
        for page in self.records.map_pages(self.kind, ALL):
            yield from page


def _read(name: str, text: str) -> tuple[Server, float]:
    """What an entry tells, and when it was written; one that cannot be read is as old as time."""
    try:
        told = json.loads(text)
        return Server(name, frozenset(map(str, told["versions"])), float(told["per_second"])), float(told["at"])
    except (ValueError, KeyError, TypeError):
        return Server(name, frozenset(), 0.0), 0.0
