"""Names of records that the other store of a pair lacks the latest of, kept in the store that holds it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

from videogen.store.moving.copying import OWN_KINDS, Name
from videogen.store.primitives import Add, Is, MapIs, MapPut, MapRemove, Operation, Record, RecordStore, Set, Write

KIND = f"{OWN_KINDS}missed"
SHARDS = [f"{number:02d}" for number in range(64)]
MOST_PER_SHARD = 4000
"""A shard that was marked more often lists no more names: then everything counts as missed."""
BETWEEN, END = "\x1f", "\x01"


@dataclass(frozen=True, slots=True)
class Mark:
    """`token` differs each time that a name is marked: a mark made again meanwhile is not taken away with the old."""

    name: Name
    token: str


class Missed:
    """The list in one store, for all processes."""

    def __init__(self, records: RecordStore) -> None:
        self.records = records
        self._full: set[str] = set()

    def mark(self, names: Iterable[Name], token: str) -> None:
        """Returns when the marks are written."""
        shards: dict[str, list[Operation]] = {}
        for name in dict.fromkeys(names):
            shards.setdefault(_shard(name), []).append(MapPut(_entry(name), token))
        self._write({shard: marks for shard, marks in shards.items() if shard not in self._full})
        self._write({shard: [Set("all", token)] for shard in shards if shard in self._full})

    def _write(self, shards: dict[str, list[Operation]]) -> None:
        writes = [Write(KIND, shard, (*operations, Add("marks", len(operations)))) for shard, operations in
                  shards.items()]  # fmt: skip
        for shard, record in zip(shards, self.records.write_many(writes), strict=True):
            if record is not None and record.count("marks") > MOST_PER_SHARD:
                self._full.add(shard)

    def marks(self) -> Iterator[Mark]:
        """Every name that is listed."""
        for shard in self._shards():
            for page in self.records.map_pages(KIND, shard):
                for entry, token in page:
                    kind, _, key = entry.removesuffix(END).partition(BETWEEN)
                    yield Mark((kind, key), token)

    def count(self) -> int:
        """Names that are listed, or at least so many."""
        return sum(map(len, self.records.map_heads(KIND, SHARDS)))

    def full(self) -> dict[str, str]:
        """Shards that list no more names, each with its latest token."""
        tokens = {shard: record.bins.get("all") for shard, record in self._shards().items()}
        return {shard: token for shard, token in tokens.items() if isinstance(token, str)}

    def _shards(self) -> dict[str, Record]:
        """Those that were ever written."""
        found = zip(SHARDS, self.records.read_many(KIND, SHARDS), strict=True)
        return {shard: record for shard, record in found if isinstance(record, Record)}

    def any(self) -> bool:
        return bool(self.full()) or next(self.marks(), None) is not None

    def has(self, name: Name) -> bool:
        """Is the name listed, or may it be one that is not listed any more?"""
        record = self.records.read(KIND, _shard(name))
        if record is None or record.bins.get("all") is not None:
            return record is not None
        entry = _entry(name)
        return [found for found, _ in self.records.map_range(KIND, _shard(name), entry[:-1], 1)] == [entry]

    def forget(self, marks: Iterable[Mark]) -> None:
        """Takes away marks that were not made again since they were read."""
        self.records.write_many(
            [
                Write(
                    KIND,
                    _shard(mark.name),
                    (MapRemove(_entry(mark.name)), Add("marks", -1)),
                    "never",
                    MapIs(_entry(mark.name), mark.token),
                )
                for mark in marks
            ]
        )

    def empty(self, shards: dict[str, str]) -> None:
        """Lets shards list names again, unless they were marked since `full` was read."""
        self.records.write_many(
            [
                Write(KIND, shard, (Set("all", None), Set("marks", 0)), "never", Is("all", token))
                for shard, token in shards.items()
            ]
        )
        self._full.clear()


def _shard(name: Name) -> str:
    return SHARDS[crc32(BETWEEN.join(name).encode()) % len(SHARDS)]


def _entry(name: Name) -> str:
    """Ends with the lowest character there may be, so that it is the first after itself without it."""
    return f"{BETWEEN.join(name)}{END}"
