"""Which services live on this store: each tells every few seconds what it serves and how fast its device is."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field

from videogen.store.local_cache import CacheStats
from videogen.store.primitives import MapIs, MapPut, MapRemove, RecordStore, Write

LIVE_S = 10.0
"""A service that has told nothing for this long is taken for dead."""
ALL = "all"


@dataclass(frozen=True, slots=True)
class Server:
    """`versions`: digests of what it serves. `per_second`: videos that its device makes with enough to do.

    `cache`: what its own cache of videos did, as it told last.
    """

    name: str
    versions: frozenset[str]
    per_second: float
    cache: CacheStats | None = field(default=None, compare=False)


class Servers:
    """One record, whose map has an entry for each service; it goes when none has told anything for a while.

    `cache_stats` is this process's own.
    """

    kind = "servers"

    def __init__(self, records: RecordStore, cache_stats: Callable[[], CacheStats | None] = lambda: None) -> None:
        self.records, self._cache_stats = records, cache_stats

    def tell(self, server: Server) -> None:
        """It lives, and stands so."""
        told = {"at": self.records.now(), "versions": sorted(server.versions), "per_second": server.per_second}
        told["cache"] = asdict(cache) if (cache := self._cache_stats()) else None
        self.records.write(Write(self.kind, ALL, (MapPut(server.name, json.dumps(told)),), ttl=10 * LIVE_S))

    def leave(self, name: str) -> None:
        """It ends."""
        self.records.write(Write(self.kind, ALL, (MapRemove(name),), create="never"))

    def live(self) -> list[Server]:
        """Those that live; what a dead one left is removed."""
        found, dead = self._look()
        if dead:
            self.records.write_many(dead)
        return found

    def seen(self) -> list[Server]:
        """As `live`, without removing anything."""
        return self._look()[0]

    def _look(self) -> tuple[list[Server], list[Write]]:
        now, found, dead = self.records.now(), [], []
        for name, text in self._entries():
            server, at = _read(name, text)
            if now - at < LIVE_S:
                found.append(server)
            else:
                dead.append(Write(self.kind, ALL, (MapRemove(name),), "never", MapIs(name, text)))
        return found, dead

    def _entries(self) -> Iterator[tuple[str, str]]:
        for page in self.records.map_pages(self.kind, ALL):
            yield from page


def _read(name: str, text: str) -> tuple[Server, float]:
    """What an entry tells, and when it was written; one that cannot be read is as old as time."""
    try:
        told = json.loads(text)
        versions, per_second = frozenset(map(str, told["versions"])), float(told["per_second"])
        return Server(name, versions, per_second, _cache(told.get("cache"))), float(told["at"])
    except (ValueError, KeyError, TypeError):
        return Server(name, frozenset(), 0.0), 0.0


def _cache(told: object) -> CacheStats | None:
    """None where another release counts other things."""
    try:
        return CacheStats(**told) if isinstance(told, dict) else None
    except TypeError:
        return None
