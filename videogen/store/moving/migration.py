"""From one store to another: every record copied with its map and its expiry, and compared.

A copy that was broken off is started again: what is there already and the same is left alone. Records that change
while they are copied are copied as they were when they were read, so the last pass is made while nothing writes.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from videogen.errors import RecordDamaged
from videogen.store.moving.copying import (
    OWN_KINDS,
    PAGE,
    Name,
    Read,
    copy_record,
    has_content,
    join_record,
    lacking,
)
from videogen.store.primitives import Record, RecordStore

BATCH = 64
MOST_NAMED = 1000
TTL_SLACK_S = 5.0
"""By which two stores' expiries may differ: some count in whole seconds."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What a pass found; `damaged` and `different` name the first of them, "kind key"."""

    seen: int = 0
    copied: int = 0
    same: int = 0
    gone: int = 0
    damaged: tuple[str, ...] = ()
    different: tuple[str, ...] = ()
    by_kind: Mapping[str, int] = field(default_factory=dict)

    def of(self, name: "Name", record: "Read") -> "Tally":
        """With one more record of the source seen, as it was read."""
        kinds = {**self.by_kind, name[0]: self.by_kind.get(name[0], 0) + 1}
        seen = replace(self, seen=self.seen + 1, by_kind=kinds)
        if record is None:  # it expired since it was named
            return replace(seen, gone=self.gone + 1)
        return replace(seen, damaged=_and(self.damaged, name)) if isinstance(record, RecordDamaged) else seen

    def with_different(self, name: "Name") -> "Tally":
        return replace(self, different=_and(self.different, name))

    @property
    def is_clean(self) -> bool:
        """Nothing differs, nothing was unreadable."""
        return not self.damaged and not self.different


Progress = Callable[[Tally], None]


def copy(
    source: RecordStore, target: RecordStore, on_progress: Progress = lambda tally: None, joined: bool = False
) -> Tally:
    """Every record of `source` in `target`, which holds nothing else that counts: records of both become the source's.

    `joined`: it does. Then what both hold stays as it is in the target, and `different` names what so is not the
    source's; of records that differ by their maps alone, the target's gets the entries that it lacks.

    Memory is bounded by a batch of records and a page of a map. Damaged records are counted and left out.
    """
    pair = Pair(source, target, joined)

    def one(tally: Tally, name: Name, record: Record, other: Read) -> Tally:
        if joined and isinstance(other, Record):
            has_joined = has_content(record, other) and join_record(name, source, target)
            tally = replace(tally, copied=tally.copied + has_joined)
            return tally if pair.is_same(name, record, other) else tally.with_different(name)
        return replace(tally, copied=tally.copied + copy_record(name, source, record, target, other))

    def end(tally: Tally) -> None:
        target.flush()
        on_progress(tally)

    return pair.walk(one, end)


def compare(
    source: RecordStore, target: RecordStore, on_progress: Progress = lambda tally: None, joined: bool = False
) -> Tally:
    """Digests of every record of `source` against `target`'s, whose maps may hold more if `joined`; changes nothing."""

    def count(tally: Tally, name: Name, record: Record, other: Read) -> Tally:
        return tally.with_different(name)

    return Pair(source, target, joined).walk(count, on_progress)


def _and(names: tuple[str, ...], name: Name) -> tuple[str, ...]:
    return (*names, " ".join(name))[:MOST_NAMED]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two stores, one of which is compared with the other. `joined`: that one has more, in its maps too."""

    source: RecordStore
    target: RecordStore
    joined: bool = False

    def walk(self, differs: Callable[[Tally, Name, Record, Read], Tally], on_batch: Progress) -> Tally:
        """Every record of the source; `differs` deals with one that the target does not hold as it is."""
        tally = Tally()
        for batch in self.batches():
            for name, record, other in batch:
                tally = tally.of(name, record)
                if isinstance(record, Record) and self.is_same(name, record, other):
                    tally = replace(tally, same=tally.same + 1)
                elif isinstance(record, Record):
                    tally = differs(tally, name, record, other)
            on_batch(tally)
        return tally

    def batches(self) -> Iterator[list[tuple[Name, Read, Read]]]:
        """Records of one kind as both hold them, some at a time."""
        found = (name for name in self.source.names() if not name[0].startswith(OWN_KINDS))
        for kind, group in itertools.groupby(found, key=lambda name: name[0]):
            names = (key for _, key in group)
            while keys := list(dict.fromkeys(itertools.islice(names, BATCH))):
                sides = (store.read_many(kind, keys, aged=True) for store in (self.source, self.target))
                yield [((kind, key), *pair) for key, *pair in zip(keys, *sides, strict=True)]

    def is_same(self, name: Name, record: Record, other: Read) -> bool:
        if self.joined and isinstance(other, Record):
            left = lacking(name, self.source, self.target, or_differs=True)
            return has_content(record, other) and next(left, None) is None
        if not isinstance(other, Record) or not _expire_together(record, other):
            return False
        return _digest(self.source, name, record) == _digest(self.target, name, other)


def _expire_together(record: Record, other: Record) -> bool:
    if record.expires_in is None or other.expires_in is None:
        return record.expires_in is other.expires_in
    return abs(record.expires_in - other.expires_in) <= TTL_SLACK_S


def _digest(store: RecordStore, name: Name, record: Record) -> str:
    digest = hashlib.sha256(json.dumps(record.bins, sort_keys=True).encode())
    digest.update(b"none" if record.payload is None else hashlib.sha256(record.payload).digest())
    for entries in store.map_pages(*name, PAGE):
        digest.update(json.dumps(entries).encode())
    return digest.hexdigest()
