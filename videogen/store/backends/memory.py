"""Records in the memory of one process: for tests and trials, with a clock that a test may move."""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from videogen.errors import RecordDamaged
from videogen.store.backends.semantics import allows, applied
from videogen.store.primitives import BackendFacts, MapPut, MapRemove, Record, RecordStore, Write


@dataclass(slots=True)
class _Stored:
    record: Record
    map: dict[str, str] = field(default_factory=dict)
    written: float = 0.0
    expires: float | None = None


class MemoryRecordStore(RecordStore):
    """`clock` gives seconds and must not run backwards."""

    asks_a_server = False

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.RLock()
        self._records: dict[tuple[str, str], _Stored] = {}

    def now(self) -> float:
        return self._clock()

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        with self._lock:
            return [self._aged(self._stored(kind, key)) for key in keys]

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        return [self._write(write) for write in writes]

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        with self._lock:
            stored = self._stored(kind, key)
            entries = sorted(stored.map.items()) if stored else []
            return list(itertools.islice((entry for entry in entries if entry[0] > after), limit))

    def names(self) -> Iterator[tuple[str, str]]:
        with self._lock:
            return iter([name for name, stored in self._records.items() if not self._is_expired(stored)])

    def flush(self) -> None:
        """There is nothing that could survive."""

    def purge(self) -> int:
        with self._lock:
            gone = [name for name, stored in self._records.items() if self._is_expired(stored)]
            for name in gone:
                del self._records[name]
            return len(gone)

    def facts(self) -> BackendFacts:
        return BackendFacts("memory", records=Counter(kind for kind, _ in self.names()))

    def close(self) -> None:
        """The records go with the object."""

    def _write(self, write: Write) -> Record | None:
        with self._lock:
            stored = self._stored(write.kind, write.key)
            record = self._aged(stored)
            if not allows(write, record, stored.map.get if stored else {}.get):
                return None
            after = applied(write.operations, record)
            stored = stored or _Stored(after)
            stored.record, stored.written = after, self.now()
            if write.ttl is not None:
                stored.expires = self.now() + write.ttl if write.ttl else None
            for operation in write.operations:
                if isinstance(operation, MapPut):
                    stored.map[operation.key] = operation.value
                elif isinstance(operation, MapRemove):
                    stored.map.pop(operation.key, None)
            self._records[write.kind, write.key] = stored
            return write.told(after.bins)

    def _stored(self, kind: str, key: str) -> _Stored | None:
        stored = self._records.get((kind, key))
        return None if stored is None or self._is_expired(stored) else stored

    def _is_expired(self, stored: _Stored) -> bool:
        return stored.expires is not None and stored.expires <= self.now()

    def _aged(self, stored: _Stored | None) -> Record | None:
        if stored is None:
            return None
        left = None if stored.expires is None else stored.expires - self.now()
        return replace(stored.record, bins=dict(stored.record.bins), age=self.now() - stored.written, expires_in=left)
