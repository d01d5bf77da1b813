"""The backend that a URL names. A further one is a file beside these, and a line here."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from videogen.errors import InvalidStoreUrl
from videogen.store.primitives import RecordStore


def _memory(url: str) -> RecordStore:
    from videogen.store.backends.memory import MemoryRecordStore

    if url not in ("memory:", "memory://"):
        raise InvalidStoreUrl(url, BACKENDS["memory"][0])
    return MemoryRecordStore()


def _embedded(url: str) -> RecordStore:
    from videogen.store.backends.embedded import EmbeddedRecordStore

    return EmbeddedRecordStore(_folder(url))


def _folder(url: str) -> Path:
    folder = url.partition(":")[2].removeprefix("//")
    if not folder or "?" in folder:
        raise InvalidStoreUrl(url, BACKENDS["embedded"][0])
    return Path(folder)


def _redis(url: str) -> RecordStore:
    from videogen.store.backends.redis.records import RedisRecordStore

    return RedisRecordStore(url)


def _aerospike(url: str) -> RecordStore:
    from videogen.store.backends.aerospike.records import AerospikeRecordStore

    return AerospikeRecordStore(url)


def _dual(url: str) -> RecordStore:
    from videogen.store.backends.dual.pair import DualRecordStore
    from videogen.store.backends.dual.sides import Side, side_name

    urls = url.partition(":")[2].split("|")
    if len(urls) != 2:
        raise InvalidStoreUrl(url, BACKENDS["dual"][0])
    return DualRecordStore(*(Side(side_name(one), partial(open_records, one)) for one in urls))


BACKENDS: dict[str, tuple[str, Callable[[str], RecordStore]]] = {
    "embedded": ("embedded:<folder> (no ? in it: there are no options)", _embedded),
    "aerospike": ("aerospike://<host>[:3000][,<host>…]/<namespace>", _aerospike),
    "redis": ("redis://[<user>:<password>@]<host>[:6379][/<number>]", _redis),
    "dual": ("dual:<one store's URL>|<the other's> (both hold everything, quote it)", _dual),
    "memory": ("memory: (this process alone)", _memory),
}
"""Scheme -> the form of its URLs, and what opens one."""


def open_records(url: str) -> RecordStore:
    """The records that `url` names. Raises InvalidStoreUrl, StoreUnavailable."""
    scheme = url.partition(":")[0]
    if ":" not in url or scheme not in BACKENDS:
        raise InvalidStoreUrl(url, "; ".join(form for form, _ in BACKENDS.values()))
    form, opened = BACKENDS[scheme]
    try:
        return opened(url)
    except ValueError as error:  # a port that is no number
        raise InvalidStoreUrl(url, f"{form} ({error})") from error


def open_existing(url: str) -> RecordStore:
    """As `open_records`, but an embedded store that is not there is an InvalidStoreUrl, and is not made."""
    from videogen.store.backends.embedded import FILE

    for one in url.removeprefix("dual:").split("|") if url.startswith("dual:") else [url]:
        if one.startswith("embedded:") and not (_folder(one) / FILE).is_file():
            raise InvalidStoreUrl(one, f"a folder that holds a store, {FILE}; this one holds none")
    return open_records(url)
