"""Record stores that die between two writes, that remember what was written, and that let others act in between."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from videogen.errors import RecordDamaged
from videogen.store.primitives import Record, RecordStore, Set, Write
from videogen.store.records import END_STATES


class Crash(BaseException):
    """The process is gone: nothing may catch this."""


class WatchedRecordStore(RecordStore):
    """Passes everything on to `inner`; counts how often each generation and each request came to its end.

    With `writes_left` it dies before the write after those; `backwards` turns the order within `write_many` around,
    for no order is promised there.
    """

    def __init__(
        self, inner: RecordStore, ends: Counter, writes_left: int | None = None, backwards: bool = False
    ) -> None:
        self.inner, self.ends, self.writes_left, self.backwards = inner, ends, writes_left, backwards

    def now(self) -> float:
        return self.inner.now()

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        return self.inner.read_many(kind, keys, aged)

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        return self.inner.map_range(kind, key, after, limit)

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        done: dict[int, Record | None] = {}
        order = range(len(writes))
        for index in reversed(order) if self.backwards else order:
            if self.writes_left is not None:
                if self.writes_left == 0:
                    raise Crash
                self.writes_left -= 1
            done[index] = self.inner.write_many([writes[index]])[0]
            if done[index] is not None:
                self._count(writes[index])
        return [done[index] for index in order]

    def together(self) -> AbstractContextManager[None]:
        block = self.inner.together()
        return self._whole(block) if self.inner.has_blocks else block

    @contextmanager
    def _whole(self, block: AbstractContextManager[None]) -> Iterator[None]:
        """What a death in it takes back did not end."""
        before = self.ends.copy()
        try:
            with block:
                yield
        except Crash:
            self.ends.clear()
            self.ends.update(before)
            raise

    def _count(self, write: Write) -> None:
        for operation in write.operations:
            ends = {"generation": ("done",), "request": END_STATES}.get(write.kind, ())
            if isinstance(operation, Set) and operation.bin == "state" and operation.value in ends:
                self.ends[write.kind, write.key] += 1

    def names(self) -> Iterator[tuple[str, str]]:
        return self.inner.names()

    def flush(self) -> None:
        self.inner.flush()

    def purge(self) -> int:
        return self.inner.purge()

    def close(self) -> None:
        self.inner.close()


class InterruptedRecordStore(WatchedRecordStore):
    """Lets `act` run, once, before the first write for which `is_it`; no block of writes keeps others out meanwhile."""

    def __init__(self, inner: RecordStore, is_it: Callable[[Write], bool], act: Callable[[], object]) -> None:
        super().__init__(inner, Counter())
        self.is_it, self.act, self.has_acted = is_it, act, False

    def together(self) -> AbstractContextManager[None]:
        return nullcontext()

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        if not self.has_acted and any(map(self.is_it, writes)):
            self.has_acted = True
            self.act()
        return super().write_many(writes)


def sets(kind: str, name: str, *values: object) -> Callable[[Write], bool]:
    """Is a write one that changes records of a kind in that bin, to one of the values if there are any?"""

    def is_it(write: Write) -> bool:
        found = [op.value for op in write.operations if isinstance(op, Set) and op.bin == name]
        return write.kind == kind and bool(found) and (not values or found[-1] in values)

    return is_it
