from collections.abc import Callable, Iterator

import pytest

from tests.store.builders import Clock
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import RecordStore


@pytest.fixture
def records(backend_url: str) -> Iterator[RecordStore]:
    store = open_records(backend_url)
    yield store
    store.close()


@pytest.fixture
def open_more(backend_url: str) -> Iterator[Callable[[], RecordStore]]:
    """Opens the backend again, as another process would."""
    opened: list[RecordStore] = []

    def more() -> RecordStore:
        opened.append(open_records(backend_url))
        return opened[-1]

    yield more
    for store in opened:
        store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def plain(clock: Clock) -> MemoryRecordStore:
    """Records whose time passes only when a test says so."""
    return MemoryRecordStore(clock)
