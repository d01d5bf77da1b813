"""What conditions and operations mean, for backends that run them in Python."""

from collections.abc import Callable

from videogen.store.primitives import (
    Add,
    Condition,
    Either,
    Every,
    Is,
    MapIs,
    Operation,
    Record,
    Set,
    SetPayload,
    Write,
)

MapGet = Callable[[str], str | None]


def allows(write: Write, record: Record | None, map_get: MapGet) -> bool:
    """May `write` happen to the record as it is (None: it does not exist)?"""
    if record is None:
        return write.create != "never"
    return write.create != "only" and (write.when is None or holds(write.when, record, map_get))


def holds(condition: Condition, record: Record, map_get: MapGet) -> bool:
    if isinstance(condition, Is):
        found = record.bins.get(condition.bin)
        return type(found) is type(condition.value) and found == condition.value
    if isinstance(condition, MapIs):
        return map_get(condition.key) == condition.value
    if isinstance(condition, Every):
        return all(holds(part, record, map_get) for part in condition.conditions)
    if isinstance(condition, Either):
        return any(holds(part, record, map_get) for part in condition.conditions)
    seconds = record.bins.get(condition.seconds_bin)
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    return is_number and record.age >= seconds


def applied(operations: tuple[Operation, ...], record: Record | None) -> Record:
    """The record after the operations on its bins and payload; its age is 0."""
    bins = dict(record.bins) if record else {}
    payload = record.payload if record else None
    for operation in operations:
        if isinstance(operation, Set) and operation.value is None:
            bins.pop(operation.bin, None)
        elif isinstance(operation, Set):
            bins[operation.bin] = operation.value
        elif isinstance(operation, Add):
            before = bins.get(operation.bin)
            counts = isinstance(before, int) and not isinstance(before, bool)
            bins[operation.bin] = (before if counts else 0) + operation.amount
        elif isinstance(operation, SetPayload):
            payload = operation.payload
    return Record(bins, payload)
