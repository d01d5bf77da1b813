"""Which requests are live, in the order of their turn, and what ended when: ordered maps in a few records."""

import heapq
import itertools
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

from videogen.requests import Lane
from videogen.store.primitives import MapIs, MapPut, MapRemove, RecordStore, Write
from videogen.store.turns import DIGITS

LANES: tuple[Lane, ...] = ("batch", "interactive")
SHARDS = 16
"""Records per lane: backends that rewrite a whole record per operation want them small."""
PAGE = 256
NEIGHBOURS = 32
"""More than there are ids that differ in their last digit alone."""
HOUR = 3600
HOURS_AT_ONCE = 16
"""Of a journal, whose heads are read in one call."""
Page = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class LiveEntry:
    """A live request's place in its lane. `key` sorts by turn; `put_at` is the store's time, and unlike any other's."""

    lane: Lane
    key: str
    put_at: str

    @property
    def request_id(self) -> str:
        turn = self.key[:DIGITS]
        return self.key[DIGITS if turn.isdigit() else 1 :]  # before there were turns, keys began with a digit


@dataclass(frozen=True, slots=True)
class Line:
    """Who waits in a lane or is being made: `keys` of entries, sorted by turn. `is_cut`: there are more."""

    keys: list[str]
    is_cut: bool


class LiveIndex:
    """Every live request is in here; what is in here need not be a live request: the request's record decides."""

    kind = "live"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def put(self, lane: Lane, turn: str, request_id: str, at: float | None = None) -> Write:
        """`at`: the store's time, asked for if it is None. Digits below a microsecond tell one put from another."""
        at = self.records.now() if at is None else at
        entry = MapPut(turn + request_id, f"{at:.6f}{secrets.randbelow(10**12):012d}")
        return Write(self.kind, self._shard(lane, request_id), (entry,))

    def find(self, lane: Lane, turn: str, request_id: str) -> LiveEntry | None:
        """The entry as it stands."""
        key = turn + request_id
        page = self.records.map_range(self.kind, self._shard(lane, request_id), key[:-1], NEIGHBOURS)
        return next((LiveEntry(lane, *entry) for entry in page if entry[0] == key), None)

    def remove(self, lane: Lane, turn: str, request_id: str) -> Write:
        return Write(self.kind, self._shard(lane, request_id), (MapRemove(turn + request_id),))

    def remove_entry(self, entry: LiveEntry) -> Write:
        """Removes the entry only as it was read: one that was put again meanwhile stays."""
        return self._remove_as(self._shard(entry.lane, entry.request_id), entry.key, entry.put_at)

    def take_back(self, put: Write) -> Write:
        """Removes what `put` wrote, but not what was put in its place since."""
        (entry,) = (operation for operation in put.operations if isinstance(operation, MapPut))
        return self._remove_as(put.key, entry.key, entry.value)

    def _remove_as(self, shard: str, key: str, put_at: str) -> Write:
        return Write(self.kind, shard, (MapRemove(key),), "never", MapIs(key, put_at))

    def entries(self, lane: Lane, first: int = PAGE, page: int = PAGE) -> Iterator[LiveEntry]:
        """All of a lane, in the order of their turns: `first` of each shard at once, then `page` of one at a time."""
        keys = [f"{lane}/{shard:02d}" for shard in range(SHARDS)]
        heads = self.records.map_heads(self.kind, keys, first)
        shards = [self._entries(lane, key, head, first, page) for key, head in zip(keys, heads, strict=True)]
        yield from heapq.merge(*shards, key=lambda entry: entry.key)

    def line(self, lane: Lane, most: int) -> Line:
        """Up to about `most` entries of a lane, read at once. Only what stands before the first of a cut is exact."""
        each = -(-most // SHARDS)
        heads = self.records.map_heads(self.kind, [f"{lane}/{shard:02d}" for shard in range(SHARDS)], each)
        return Line(sorted(key for head in heads for key, _ in head), any(len(head) == each for head in heads))

    def _entries(self, lane: Lane, shard: str, head: Page, first: int, size: int) -> Iterator[LiveEntry]:
        yield from (LiveEntry(lane, *entry) for entry in head)
        while len(head) == first:
            head, first = self.records.map_range(self.kind, shard, head[-1][0], size), size
            yield from (LiveEntry(lane, *entry) for entry in head)

    def _shard(self, lane: Lane, request_id: str) -> str:
        return f"{lane}/{crc32(request_id.encode()) % SHARDS:02d}"


class Journal:
    """Ids of what has ended, by the hour in which it did. `kind` is what the ids are of, `keep` in seconds.

    An hour has `SHARDS` records: one that all write would be the hottest of the store, and the first to be full.
    """

    def __init__(self, records: RecordStore, kind: str, keep: float) -> None:
        self.records, self.kind, self.keep = records, f"ended-{kind}", keep

    def put(self, *entry_ids: str, at: float | None = None) -> Write:
        """What has ended. `at`: the store's time, asked for if it is None."""
        keys = _hour_keys(int((self.records.now() if at is None else at) // HOUR))
        key = keys[crc32(entry_ids[0].encode()) % SHARDS]
        return Write(self.kind, key, tuple(map(MapPut, entry_ids)), ttl=self.keep + HOUR)

    def latest(self) -> Iterator[str]:
        """From the hour that ended last backwards, newest id first within an hour."""
        hour = int(self.records.now() // HOUR)
        oldest, at_once = hour - int(self.keep // HOUR) - 1, 1
        while hour >= oldest:
            hours, found = range(hour, max(hour - at_once, oldest - 1), -1), 0
            for ids in self._hours(hours):
                found += len(ids)
                yield from sorted(ids, reverse=True)
            # Twice as many after a look that found little: of a quiet week, a look at each hour is all there is to do.
            at_once = min(2 * at_once, HOURS_AT_ONCE) if found < PAGE else 1
            hour = hours[-1] - 1

    def _hours(self, hours: Sequence[int]) -> Iterator[set[str]]:
        """What each holds; the heads of all their records are read at once, the rest of an hour when it is its turn."""
        keys = [key for hour in hours for key in _hour_keys(hour)]
        heads = zip(keys, self.records.map_heads(self.kind, keys, PAGE), strict=True)
        for _ in hours:
            yield set[str]().union(*(self._whole(*head) for head in itertools.islice(heads, SHARDS)))

    def _whole(self, key: str, page: Page) -> set[str]:
        found = set[str]()
        while page:
            found.update(entry for entry, _ in page)
            page = self.records.map_range(self.kind, key, page[-1][0], PAGE) if len(page) == PAGE else []
        return found


def _hour_keys(hour: int) -> list[str]:
    return [str(hour), *(f"{hour}/{shard:02d}" for shard in range(1, SHARDS))]
