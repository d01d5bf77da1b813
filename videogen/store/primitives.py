"""What a backend has to offer: a handful of operations, each atomic on one record and only on one.

A record is a few named bins, at most one payload of bytes, and at most one ordered map of texts. Logic that needs
more than one record is an ordered sequence of these operations that can resume after any of them.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Literal

from videogen.errors import RecordDamaged
from videogen.findings import Finding

Value = None | bool | int | float | str | list[str]
MAX_PAYLOAD = 1024 * 1024 - 4096
"""Bytes: Aerospike's default record of 1 MiB, less room for names and expiry."""
MAX_BIN_NAME = 15
KEYS_AT_ONCE = 256
VALUE_RULE = "a Unicode text without NUL, a list of such texts, a number of at most 64 bits, a boolean or None"
NEVER = 0.0
"""As a write's `ttl`: the record does not expire."""


def _is_text(text: str) -> bool:
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _is_value(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(2**63) <= value < 2**63
    return isinstance(value, list) and all(isinstance(item, str) and _is_text(item) for item in value)


@dataclass(frozen=True, slots=True)
class Set:
    """Setting a bin to None takes it away. Raises ValueError for what not every backend can hold."""

    bin: str
    value: Value

    def __post_init__(self) -> None:
        if not 0 < len(self.bin) <= MAX_BIN_NAME:
            raise ValueError(f"bin {self.bin!r}: a bin's name has 1 to {MAX_BIN_NAME} characters")
        if not _is_value(self.value):
            raise ValueError(f"bin {self.bin}: got {self.value!r}; expected {VALUE_RULE}")


@dataclass(frozen=True, slots=True)
class Add:
    """Adds a whole number to a bin; one that holds no whole number counts as 0."""

    bin: str
    amount: int


@dataclass(frozen=True, slots=True)
class SetPayload:
    payload: bytes


@dataclass(frozen=True, slots=True)
class MapPut:
    key: str
    value: str = ""

    def __post_init__(self) -> None:
        if not self.key or not _is_text(self.key + self.value):
            raise ValueError(f"a map's entry: got {self.key!r}: {self.value!r}; expected a key, and no NUL in either")


@dataclass(frozen=True, slots=True)
class MapRemove:
    """Removing what is not there is no error."""

    key: str


Operation = Set | Add | SetPayload | MapPut | MapRemove


@dataclass(frozen=True, slots=True)
class Is:
    """The bin holds `value`, of the same type; a missing bin holds None."""

    bin: str
    value: Value


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Nobody has written the record for as many seconds as its bin says, by the store's clock."""

    seconds_bin: str


@dataclass(frozen=True, slots=True)
class MapIs:
    """The map holds `value` under `key`."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Every:
    conditions: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Either:
    conditions: tuple["Condition", ...]


Condition = Is | Unwritten | MapIs | Every | Either


def every(*conditions: Condition) -> Every:
    return Every(conditions)


def either(*conditions: Condition) -> Either:
    return Either(conditions)


@dataclass(frozen=True, slots=True)
class Write:
    """Several operations on one record at once: all of them happen, or none.

    `create`: "allow" writes whether or not the record exists, "only" if it doesn't, "never" if it does and `when`
    holds. No condition holds on a damaged record, and "allow" starts it afresh. `ttl` in seconds from now; None leaves
    the record's expiry as it is, NEVER takes it away.
    """

    kind: str
    key: str
    operations: tuple[Operation, ...]
    create: Literal["allow", "only", "never"] = "allow"
    when: Condition | None = None
    ttl: float | None = None

    def __post_init__(self) -> None:
        if self.when is not None and self.create != "never":
            raise ValueError("a condition is about a record that exists: create='never'")
        for op in self.operations:
            if isinstance(op, SetPayload) and len(op.payload) > MAX_PAYLOAD:
                raise ValueError(f"a payload of more than {MAX_PAYLOAD:,} bytes; cut it into chunks")

    @property
    def counted(self) -> tuple[str, ...]:
        """The bins whose values only the store can tell: those that it adds to, each once."""
        told = {op.bin: op for op in self.operations if isinstance(op, Set | Add)}
        return tuple(name for name, last in told.items() if isinstance(last, Add))

    def told(self, counts: Mapping[str, Value]) -> "Record":
        """The bins that it names, as they are once it has happened; `counts` holds those that are `counted`."""
        bins: dict[str, Value] = {}
        for op in self.operations:
            if isinstance(op, Set):
                bins[op.bin] = op.value
            elif isinstance(op, Add):
                bins[op.bin] = counts.get(op.bin)
        return Record({name: value for name, value in bins.items() if value is not None})


@dataclass(frozen=True, slots=True)
class Record:
    """What a record held when it was read.

    If asked for, by the store's clock: `age`, seconds since its last write, and `expires_in`, None if it never does.
    """

    bins: dict[str, Value] = field(default_factory=dict)
    payload: bytes | None = None
    age: float = math.nan
    expires_in: float | None = None

    def text(self, name: str) -> str:
        """A bin that must hold a text. Raises RecordDamaged."""
        value = self.bins.get(name)
        if not isinstance(value, str):
            raise RecordDamaged(f"bin {name} holds {value!r}, not a text")
        return value

    def number(self, name: str) -> float:
        """A bin that must hold a number. Raises RecordDamaged."""
        value = self.bins.get(name)
        if not isinstance(value, int | float):
            raise RecordDamaged(f"bin {name} holds {value!r}, not a number")
        return value

    def count(self, name: str) -> int:
        """A bin that must hold a whole number; missing counts as 0. Raises RecordDamaged."""
        value = self.bins.get(name, 0)
        if not isinstance(value, int):
            raise RecordDamaged(f"bin {name} holds {value!r}, not a whole number")
        return value

    def optional_text(self, name: str) -> str | None:
        """A bin that must hold a text if it is there. Raises RecordDamaged."""
        return None if self.bins.get(name) is None else self.text(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A bin that must hold a list of texts. Raises RecordDamaged."""
        value = self.bins.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise RecordDamaged(f"bin {name} holds {value!r}, not a list of texts")
        return tuple(value)


def undamaged(found: Record | RecordDamaged | None) -> Record | None:
    """What was found. Raises RecordDamaged where that is it."""
    if isinstance(found, RecordDamaged):
        raise found
    return found


@dataclass(frozen=True, slots=True)
class BackendFacts:
    """`where` without credentials; None for what the backend does not tell. Bytes are those of all that it holds.

    `records` counts by kind; what has expired may be in it until it is removed. `missed`: records of one of two stores
    that the other has yet to get, at least.
    """

    where: str
    version: str | None = None
    bytes_used: int | None = None
    bytes_limit: int | None = None
    records: Mapping[str, int] | None = None
    missed: int | None = None


class RecordStore(ABC):
    """Records by kind and key. Safe to use from several threads and several processes at once.

    Every method raises StoreUnavailable when the backend cannot be reached or has no room.
    """

    asks_a_server = True
    """Does `now` take a round trip?"""
    has_blocks = False
    """Is what is written in a block of `together` one write to the backend?"""

    @abstractmethod
    def now(self) -> float:
        """The store's own clock in seconds; it never runs backwards, not even over a restart of the machine."""

    @abstractmethod
    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        """Each record without its map; None where there is none, and what is wrong with it where it cannot be read.

        Only if `aged` do records have an age and an expiry: it costs a server more.
        """

    def read_each(self, names: Sequence[tuple[str, str]]) -> list[Record | RecordDamaged | None]:
        """As `read_many`, of several kinds: at once where a backend is the faster for it, in no promised order."""
        by_kind = itertools.groupby(names, key=lambda name: name[0])
        return [found for kind, part in by_kind for found in self.read_many(kind, [key for _, key in part])]

    @abstractmethod
    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        """Each write by itself, in no promised order; a crash may leave any of them undone.

        Gives the bins that each write names, as they then are, or None where `create` or `when` refused it. Raises
        StoreInDoubt when the answer was lost: each of them may have happened or not, and may happen yet.
        """

    def together(self) -> AbstractContextManager[None]:
        """A block whose writes, in their order, may be acknowledged as late as at its end: for speed, no promise.

        A crash in it takes back its latest writes, or all. So what they say is told nobody before the block is left,
        and nothing in it waits. An error that is raised through it leaves the writes before it as they are, unless it
        is StoreUnavailable.
        """
        return nullcontext()

    @abstractmethod
    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        """Up to `limit` entries of a record's map whose key comes after `after`, in the order of their keys.

        Fewer only where the map ends.
        """

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        """The first `limit` entries of each record's map, asked for at once where a backend can."""
        return [self.map_range(kind, key, limit=limit) for key in keys]

    def map_pages(self, kind: str, key: str, size: int = 1000) -> Iterator[list[tuple[str, str]]]:
        """A record's whole map in the order of its keys, up to `size` entries at a time."""
        page = self.map_range(kind, key, limit=size)
        while page:
            yield page
            page = self.map_range(kind, key, page[-1][0], size) if len(page) == size else []

    @abstractmethod
    def names(self) -> Iterator[tuple[str, str]]:
        """Kind and key of every record, in no promised order, some perhaps twice; those that come or go meanwhile may
        be missed. For copies and inspections: it reads the whole store, a page at a time.
        """

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        """Keys of one kind; with `since`, of records that were last written then or later by the store's clock.

        Else as `names`: for copies and inspections.
        """
        found = (key for of, key in self.names() if of == kind)
        return found if since <= 0 else self._written_since(kind, found, since)

    def _written_since(self, kind: str, keys: Iterator[str], since: float) -> Iterator[str]:
        while part := list(itertools.islice(keys, KEYS_AT_ONCE)):
            now = self.now()
            for key, record in zip(part, self.read_many(kind, part, aged=True), strict=True):
                if isinstance(record, RecordDamaged) or (record is not None and now - record.age >= since):
                    yield key

    @abstractmethod
    def flush(self) -> None:
        """Returns when everything written so far will survive a power cut, as far as the backend can promise it.

        A server may promise that only of what came over the same connection.
        """

    @abstractmethod
    def purge(self) -> int:
        """Frees the room of expired records, where the backend doesn't by itself; gives their number."""

    def examine(self) -> list[Finding]:
        """What of the server's settings the store does not get on with, each with its fix; changes nothing."""
        return []

    def facts(self) -> BackendFacts:
        """Where the records are and how much room they take, as far as the backend can tell without a walk."""
        return BackendFacts(type(self).__name__)

    @abstractmethod
    def close(self) -> None:
        """Gives back what this process holds. Closing twice is no error."""

    def read(self, kind: str, key: str, aged: bool = False) -> Record | None:
        """One record without its map, or None. Raises RecordDamaged when it is there but cannot be read."""
        return undamaged(self.read_many(kind, [key], aged)[0])

    def write(self, write: Write) -> Record | None:
        """One write: the bins it names, as they then are, or None if it was refused."""
        return self.write_many([write])[0]
