"""One record from one store to another, with its map and its expiry, over a record that is still as it was read.

Records that two stores hold together carry a head: how often they were written, and the id of the last write. A copy is
made under the condition that the head has not moved, so it never replaces what is newer than what was read.
"""

import itertools
import secrets
from collections.abc import Iterator

from videogen.errors import RecordDamaged
from videogen.store.primitives import (
    NEVER,
    Is,
    MapPut,
    MapRemove,
    Operation,
    Record,
    RecordStore,
    Set,
    SetPayload,
    Write,
    every,
)

REVISION, LAST_WRITE = "dual_rev", "dual_by"
COPYING = -1
"""As a revision: a copy of more than one write has begun."""
OWN_KINDS = "dual_"
"""Begins the kinds of records that are about two stores, not in them."""
PAGE = 500
"""Changes of a map in one write."""
Name = tuple[str, str]
"""Kind and key."""
Read = Record | RecordDamaged | None


def copy_record(name: Name, source: RecordStore, record: Record, target: RecordStore, other: Read) -> bool:
    """Puts `record`, as it was read with its expiry from `source`, where `target` held `other`.

    Memory is bounded by a record and a page of a map. False if `target` holds something else by now. Broken off, it
    leaves a record that counts as older than any, and is started again.
    """
    ttl = NEVER if record.expires_in is None else max(record.expires_in, 0.001)
    changes = _changes(name, source, target, other)
    first, last = list(itertools.islice(changes, PAGE)), _content(record, other)
    if len(first) < PAGE:
        return target.write(_over(name, other, (*last, *first), ttl)) is not None
    copier = secrets.token_hex(8)
    begun = (Set(REVISION, COPYING), Set(LAST_WRITE, copier), *first)
    if target.write(_over(name, other, begun, ttl)) is None:
        return False
    still_mine = Is(LAST_WRITE, copier)
    while len(more := list(itertools.islice(changes, PAGE))) == PAGE:
        if target.write(Write(*name, tuple(more), "never", still_mine)) is None:
            return False
    return target.write(Write(*name, (*last, *more), "never", still_mine, ttl)) is not None


def join_record(name: Name, source: RecordStore, target: RecordStore) -> bool:
    """Adds entries that only the source's map has to the target's, which loses none. False if there was none to add."""
    entries, has_joined = lacking(name, source, target), False
    while part := tuple(MapPut(*entry) for entry in itertools.islice(entries, PAGE)):
        if target.write(Write(*name, part, "never")) is None:  # it expired since it was read
            break
        has_joined = True
    return has_joined


def lacking(
    name: Name, source: RecordStore, target: RecordStore, or_differs: bool = False
) -> Iterator[tuple[str, str]]:
    """Entries of the source's map whose keys the target's does not have, or has with another value."""
    held = _entries(target, name)
    old = next(held, None)
    for key, value in _entries(source, name):
        while old is not None and old[0] < key:
            old = next(held, None)
        is_there = old is not None and old[0] == key
        if not is_there or (or_differs and old != (key, value)):
            yield key, value


def has_content(record: Record, other: Record) -> bool:
    """Do both hold the same beside their maps and heads?"""
    here, there = ({k: v for k, v in one.bins.items() if k not in (REVISION, LAST_WRITE)} for one in (record, other))
    return here == there and record.payload == other.payload


def _content(record: Record, other: Read) -> list[Operation]:
    there = {REVISION, LAST_WRITE} | (other.bins.keys() if isinstance(other, Record) else set())
    operations: list[Operation] = [Set(stale, None) for stale in sorted(there - record.bins.keys())]
    operations += [Set(bin_name, value) for bin_name, value in record.bins.items()]
    return operations if record.payload is None else [*operations, SetPayload(record.payload)]


def _over(name: Name, other: Read, operations: tuple[Operation, ...], ttl: float) -> Write:
    if isinstance(other, Record):
        unmoved = every(*(Is(part, other.bins.get(part)) for part in (REVISION, LAST_WRITE)))
        return Write(*name, operations, "never", unmoved, ttl)
    return Write(*name, operations, "only" if other is None else "allow", ttl=ttl)


def _changes(name: Name, source: RecordStore, target: RecordStore, other: Read) -> Iterator[MapPut | MapRemove]:
    """What makes the target's map the source's, in the order of its keys."""
    held = _entries(target, name) if other is not None else iter(())
    stays = isinstance(other, Record)  # a damaged one is started afresh
    old = next(held, None)
    for key, value in _entries(source, name):
        while old is not None and old[0] < key:
            yield MapRemove(old[0])
            old = next(held, None)
        if not stays or old != (key, value):
            yield MapPut(key, value)
        if old is not None and old[0] == key:
            old = next(held, None)
    while old is not None:
        yield MapRemove(old[0])
        old = next(held, None)


def _entries(store: RecordStore, name: Name) -> Iterator[tuple[str, str]]:
    return (entry for page in store.map_pages(*name, PAGE) for entry in page)
