"""Servers that hang, die, come back empty or are full: each a typed error, in bounded time, over when they are back."""

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.servers import aerospike_server, aerospike_url, free_port, redis_server
from tests.store.builders import accepted
from tests.store.servers import CONFIG, Server, patiently, server_of
from videogen.errors import StoreInDoubt, StoreUnavailable
from videogen.store.backends.aerospike.records import ATTEMPT_MS
from videogen.store.backends.catalog import open_records
from videogen.store.backends.redis.records import ANSWER_S
from videogen.store.primitives import Add, MapPut, MapRemove, RecordStore, Set, SetPayload, Write
from videogen.store.store import Store

LONGEST_S = 9.0
"""That any call may take, whatever the server does: an answer's time-out, and one look at what became of it."""


@pytest.fixture(params=["redis", "aerospike"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with server_of(request.param, tmp_path) as found:
        yield found


@pytest.fixture
def records(server: Server) -> Iterator[RecordStore]:
    store = open_records(server.url)
    yield store
    server.send(signal.SIGCONT)
    store.close()


def later(seconds: float, work: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, work)
    timer.start()
    return timer


def fill(records: RecordStore, most: int, error: str) -> None:
    """Writes until the server refuses, which it must, with this error."""

    def write_all() -> None:
        for index in range(most):
            records.write(Write("chunk", str(index), (SetPayload(bytes(500_000)),)))
            time.sleep(0.02)

    with pytest.raises(StoreUnavailable, match=error):
        write_all()


def test_a_server_that_hangs_is_an_error_in_bounded_time(server, records):
    records.write(Write("kind", "a", (Set("n", 1),)))
    server.send(signal.SIGSTOP)
    for call in (
        lambda: records.read("kind", "a"),
        lambda: records.map_range("kind", "a"),
        lambda: records.write(Write("kind", "a", (Set("n", 2),))),
        lambda: records.write_many([Write("kind", key, (Set("n", 2),)) for key in "ab"]),
        records.now,
    ):
        start = time.monotonic()
        with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1"):
            call()
        assert time.monotonic() - start < LONGEST_S
    server.send(signal.SIGCONT)
    assert patiently(lambda: records.read("kind", "a").bins["n"]) in (1, 2)
    assert records.write(Write("kind", "a", (Set("n", 3),))).bins == {"n": 3}


def test_a_write_whose_answer_was_lost_is_found_and_not_done_twice(server, records):
    records.write(Write("kind", "a", (Set("n", 0),)))
    patience = ATTEMPT_MS / 1000 if "aerospike" in server.url else ANSWER_S
    server.send(signal.SIGSTOP)
    timer = later(patience + 0.5, lambda: server.send(signal.SIGCONT))
    found = records.write(Write("kind", "a", (Add("n", 1), MapPut("k"))))
    timer.join()
    assert found.bins == {"n": 1}
    assert records.read("kind", "a").bins == {"n": 1} and records.map_range("kind", "a") == [("k", "")]


def test_a_write_that_nobody_can_tell_of_says_so(server, records):
    records.write(Write("kind", "a", (Set("n", 0),)))
    server.send(signal.SIGSTOP)
    with pytest.raises(StoreInDoubt):
        records.write(Write("kind", "a", (Add("n", 1),)))


def test_a_server_that_was_killed_and_comes_back_empty(server, records):
    records.write(Write("kind", "a", (Set("n", 1),)))
    server.kill()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable):
        records.read("kind", "a")
    with pytest.raises(StoreUnavailable):
        records.write(Write("kind", "a", (Set("n", 2),)))
    assert time.monotonic() - start < LONGEST_S
    server.start()
    assert patiently(lambda: records.read("kind", "a")) is None
    assert records.write(Write("kind", "a", (Set("n", 3),))).bins == {"n": 3}


def test_a_store_goes_on_after_an_outage_and_keeps_what_was_accepted_since(server, records):
    store = Store(records)
    server.kill()
    with pytest.raises(StoreUnavailable):
        store.submit(accepted(1))
    server.start()
    one = patiently(lambda: store.submit(accepted(1)).id)
    assert store.request(one).state == "queued" and [record.id for record in store.waiting()] == [one]


def test_a_redis_without_room_refuses_writes_and_still_reads(tmp_path):
    with redis_server(tmp_path, "--maxmemory", "3mb", "--maxmemory-policy", "noeviction") as (url, _):
        records = open_records(url)
        records.write(Write("kind", "a", (Set("n", 1),)))
        fill(records, 20, "maxmemory")
        assert records.read("kind", "a").bins == {"n": 1}


def test_an_aerospike_without_room_refuses_writes_and_still_reads(tmp_path):
    config = CONFIG.replace("filesize 2G", "filesize 2G\n\t\tstop-writes-used-pct 1")
    with aerospike_server(config, tmp_path) as node:
        records = open_records(node.url())
        records.write(Write("kind", "a", (Set("n", 1),)))
        fill(records, 400, "SERVER_FULL")
        assert records.read("kind", "a").bins == {"n": 1}
        assert any("refuses writes" in one.what for one in records.examine())
        records.close()


@pytest.mark.parametrize("form", ["redis://127.0.0.1:{}", "aerospike://127.0.0.1:{}/videogen"])
def test_a_host_that_nobody_listens_on_is_named(form):
    if form.startswith("aerospike"):
        pytest.importorskip("aerospike")
    port = free_port()
    start = time.monotonic()
    with pytest.raises(StoreUnavailable, match=f"127.0.0.1:{port}"):
        open_records(form.format(port))
    assert time.monotonic() - start < LONGEST_S


def test_an_aerospike_namespace_that_is_not_there_is_named():
    records = open_records(f"{aerospike_url().rpartition('/')[0]}/nowhere")
    for call in (
        lambda: records.read("kind", "a"),
        lambda: records.write(Write("kind", "a", (Set("n", 1),))),
        lambda: records.write_many([Write("kind", key, (Set("n", 1),)) for key in "ab"]),
        records.now,
    ):
        with pytest.raises(StoreUnavailable, match="nowhere"):
            call()
    records.close()


def test_an_aerospike_record_that_is_full_takes_no_more_and_keeps_what_it_has():
    records = open_records(f"{aerospike_url()}?prefix={uuid.uuid4().hex[:8]}")

    written: list[int] = []

    def fill_map() -> None:
        for number in range(1000):
            records.write(Write("kind", "a", (MapPut(f"{number:04d}", "x" * 20_000),), ttl=60.0))
            written.append(number)

    with pytest.raises(StoreUnavailable, match="RECORD_TOO_BIG"):
        fill_map()
    assert len(written) > 40 and len(records.map_range("kind", "a")) == len(written)
    assert records.write(Write("kind", "a", (MapRemove("0000"),))) is not None
    records.close()
