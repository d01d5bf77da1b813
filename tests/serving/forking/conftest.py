import pytest

from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store


@pytest.fixture
def store() -> Store:
    return Store(MemoryRecordStore())
