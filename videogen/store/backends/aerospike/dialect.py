"""The store's operations and conditions in Aerospike's own: multi-operations and filter expressions."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import aerospike  # noqa: TID253 - imported by its backend alone, when a URL names it
from aerospike_helpers import expressions
from aerospike_helpers.batch import records as _records
from aerospike_helpers.operations import expression_operations, map_operations
from aerospike_helpers.operations import operations as plain

from videogen.store.backends.aerospike.bins import AGE, MAP, PAYLOAD, WRITE_ID
from videogen.store.primitives import (
    Add,
    Condition,
    Either,
    Every,
    Is,
    MapIs,
    MapPut,
    MapRemove,
    Operation,
    Set,
    SetPayload,
    Value,
    Write,
)

exp: Any = expressions
"""The client's own annotations refuse what its documentation shows: plain values and compiled expressions."""
batch: Any = _records
_expression_read: Any = expression_operations.expression_read
_expression_write: Any = expression_operations.expression_write
_ORDERED = {"map_order": aerospike.MAP_KEY_ORDERED}
_EXISTS = {
    "allow": aerospike.POLICY_EXISTS_IGNORE,
    "only": aerospike.POLICY_EXISTS_CREATE,
    "never": aerospike.POLICY_EXISTS_UPDATE,
}
_SINCE = exp.SinceUpdateTime()
_BINS = [plain.read("")]
_AGE_THEN_BINS = ([_expression_read(AGE, _SINCE.compile())], _BINS)
CLOCK_READS = [
    _expression_read("at", exp.LastUpdateTime().compile()),
    _expression_read("since", _SINCE.compile()),
]
"""The server's clock, of any record: nanoseconds of its last update, and milliseconds since."""
CLOCK_POLICY = {"key": aerospike.POLICY_KEY_SEND, "ttl": aerospike.TTL_NEVER_EXPIRE}


def reads(keys: Iterable[Any]) -> Any:
    """A batch that reads all bins of each record."""
    return batch.BatchRecords([batch.Read(key, _BINS) for key in keys])


def heads(keys: Iterable[Any], limit: int) -> Any:
    """A batch that reads the first entries of each record's map."""
    return batch.BatchRecords([batch.Read(key, [page("", limit)]) for key in keys])


def aged_reads(keys: Iterable[Any]) -> Any:
    """A batch of two reads of each record, age in milliseconds and all bins: the server does not do both in one."""
    return batch.BatchRecords([batch.Read(key, ops) for key in keys for ops in _AGE_THEN_BINS])


def written_since(seconds: float) -> Any:
    """A filter: records that were last written then or later by the server's clock."""
    return exp.GE(exp.LastUpdateTime(), int(seconds * 1e9)).compile()


def writes(told: Iterable[tuple[Any, list[dict[str, Any]], dict[str, Any]]]) -> Any:
    """A batch of writes, each its key, operations and policy."""
    return batch.BatchRecords([batch.Write(key, operations, policy=policy) for key, operations, policy in told])


def bins(write: Write, write_id: str) -> dict[str, Any] | None:
    """What a write puts into bins and its id, None if it does more than that."""
    found: dict[str, Any] = {WRITE_ID: write_id}
    for operation in write.operations:
        if isinstance(operation, Set):
            found[operation.bin] = operation.value
        elif isinstance(operation, SetPayload):
            found[PAYLOAD] = operation.payload
        else:
            return None
    return found


def operations(write: Write, write_id: str, any_bin: bool = False) -> list[dict[str, Any]]:
    """A write's operations, its id, and reads of the bins that it adds to.

    With `any_bin`, an addition to a bin that holds no whole number starts at 0; without, which costs the server half,
    the server refuses it as of an incompatible type.
    """
    changes = [_operation(operation, any_bin) for operation in write.operations]
    return [plain.write(WRITE_ID, write_id), *changes, *map(plain.read, write.counted)]


def policy(write: Write) -> dict[str, Any]:
    """When a write may happen, and how long its record lives from then on."""
    found = {"exists": _EXISTS[write.create], "key": aerospike.POLICY_KEY_SEND, "ttl": _ttl(write.ttl)}
    if write.when is not None:
        found["expressions"] = _compiled(_Asked(repr(write.when), write.when))
    return found


def page(after: str, limit: int) -> dict[str, Any]:
    """Entries of the map from `after` on, that one included, one more than `limit`."""
    if not after:
        return map_operations.map_get_by_index_range(MAP, 0, limit, aerospike.MAP_RETURN_KEY_VALUE)
    kind = aerospike.MAP_RETURN_KEY_VALUE
    return map_operations.map_get_by_key_index_range_relative(MAP, after, 0, kind, limit + 1)


def _ttl(seconds: float | None) -> int:
    if seconds is None:
        return aerospike.TTL_DONT_UPDATE
    return max(1, math.ceil(seconds)) if seconds else aerospike.TTL_NEVER_EXPIRE


def _operation(operation: Operation, any_bin: bool) -> dict[str, Any]:
    match operation:
        case Set(bin, value):
            return plain.write(bin, value)
        case Add(bin, amount) if not any_bin:
            return plain.increment(bin, amount)
        case Add(bin, amount):
            sum_ = exp.Cond(_is_of(bin, int), exp.Add(exp.IntBin(bin), amount), amount)
            return _expression_write(bin, sum_.compile())
        case SetPayload(payload):
            return plain.write(PAYLOAD, payload)
        case MapPut(key, value):
            return map_operations.map_put(MAP, key, value, _ORDERED)
        case MapRemove(key):
            return map_operations.map_remove_by_key(MAP, key, aerospike.MAP_RETURN_NONE)


_TYPES: dict[type, tuple[int, Any]] = {
    bool: (aerospike.AS_BYTES_BOOL, exp.BoolBin),
    int: (aerospike.AS_BYTES_INTEGER, exp.IntBin),
    float: (aerospike.AS_BYTES_DOUBLE, exp.FloatBin),
    str: (aerospike.AS_BYTES_STRING, exp.StrBin),
    list: (aerospike.AS_BYTES_LIST, exp.ListBin),
}


def _is_of(name: str, kind: type) -> Any:
    return exp.Eq(exp.BinType(name), _TYPES[kind][0])


def _holds(condition: Condition) -> Any:
    match condition:
        case Is(bin, None):
            return exp.Not(exp.BinExists(bin))
        case Is(bin, value):
            # Its type comes first: a bin of another one would make the whole filter unknown.
            return exp.And(_is_of(bin, type(value)), exp.Eq(_TYPES[type(value)][1](bin), _value(value)))
        case MapIs(key, value):
            held = exp.MapBin(MAP)
            count = exp.MapGetByKey(None, aerospike.MAP_RETURN_COUNT, exp.ResultType.INTEGER, key, held)
            found = exp.MapGetByKey(None, aerospike.MAP_RETURN_VALUE, exp.ResultType.STRING, key, held)
            return exp.And(exp.BinExists(MAP), exp.Eq(count, 1), exp.Eq(found, value))
        case Every(parts):
            return _joined(exp.And, parts, nothing=True)
        case Either(parts):
            return _joined(exp.Or, parts, nothing=False)
    name = condition.seconds_bin
    whole = exp.And(_is_of(name, int), exp.GE(_SINCE, exp.Mul(exp.IntBin(name), 1000)))
    part = exp.And(_is_of(name, float), exp.GE(exp.ToFloat(_SINCE), exp.Mul(exp.FloatBin(name), 1000.0)))
    return exp.Or(whole, part)


@dataclass(frozen=True, slots=True)
class _Asked:
    """A condition under its text, which tells 1 from True and from 1.0, as equality does not."""

    text: str
    condition: Condition = field(compare=False)


@lru_cache(maxsize=1024)
def _compiled(asked: _Asked) -> Any:
    """Most conditions are asked again and again, and compiling one takes longer than sending it."""
    return _holds(asked.condition).compile()


def _joined(how: Any, parts: tuple[Condition, ...], nothing: bool) -> Any:
    held = [_holds(part) for part in parts]
    return how(*held) if len(held) > 1 else held[0] if held else exp.Eq(exp.Val(1), 1 if nothing else 0)


def _value(value: Value) -> Any:
    return exp.Val(value) if isinstance(value, bool) else value
