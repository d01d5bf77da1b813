"""The backend that a URL names. A further one is a file beside these, and a line here."""

from collections.abc import Callable

from videogen.errors import StoreUnavailable
from videogen.store.primitives import RecordStore


def _memory(url: str) -> RecordStore:
    from videogen.store.backends.memory import MemoryRecordStore

    return MemoryRecordStore()


def _embedded(url: str) -> RecordStore:
    from videogen.store.backends.embedded import EmbeddedRecordStore

    folder = url.partition(":")[2].removeprefix("//")
    if not folder:
        raise StoreUnavailable(f"store URL: got {url!r}; allowed: {BACKENDS['embedded'][0]}")
    return EmbeddedRecordStore(folder)


def _redis(url: str) -> RecordStore:
    from videogen.store.backends.redis import RedisRecordStore

    return RedisRecordStore(url)


def _aerospike(url: str) -> RecordStore:
    from videogen.store.backends.aerospike import AerospikeRecordStore

    return AerospikeRecordStore(url)


BACKENDS: dict[str, tuple[str, Callable[[str], RecordStore]]] = {
    "embedded": ("embedded:<folder>", _embedded),
    "aerospike": ("aerospike://<host>[:3000][,<host>…]/<namespace>", _aerospike),
    "redis": ("redis://[<user>:<password>@]<host>[:6379][/<number>]", _redis),
    "memory": ("memory: (this process alone)", _memory),
}
"""Scheme -> the form of its URLs, and what opens one."""


def open_records(url: str) -> RecordStore:
    """The records that `url` names. Raises StoreUnavailable."""
    scheme = url.partition(":")[0]
    if ":" not in url or scheme not in BACKENDS:
        raise StoreUnavailable(f"store URL: got {url!r}; allowed: {'; '.join(form for form, _ in BACKENDS.values())}")
    return BACKENDS[scheme][1](url)
