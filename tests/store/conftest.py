import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.servers import aerospike_url, redis_server
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import RecordStore


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture(params=["memory", "embedded", "redis", "aerospike"])
def backend_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store on each backend in turn."""
    fresh = uuid.uuid4().hex[:12]
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}?namespace={fresh}"
    if request.param == "aerospike":
        return f"{aerospike_url()}?prefix={fresh}"
    return {"memory": "memory:", "embedded": f"embedded:{tmp_path / 'store'}"}[request.param]


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
