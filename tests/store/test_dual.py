"""Two real stores that hold the same, whatever becomes of one of them or of those who write."""

import itertools
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.servers import redis_server
from tests.store.builders import accepted, drain_all
from tests.store.servers import Server, patiently, server_of, until
from videogen.errors import InvalidStoreUrl, StoreInDoubt, StoreUnavailable
from videogen.store.backends.catalog import open_records
from videogen.store.backends.dual import missed as listing
from videogen.store.backends.dual.mending import Busy, repair_once, replay
from videogen.store.backends.dual.missed import Missed
from videogen.store.backends.dual.pair import DualRecordStore
from videogen.store.backends.dual.roles import POINTER_S
from videogen.store.backends.dual.sides import Side
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.moving.copying import COPYING, LAST_WRITE, REVISION
from videogen.store.moving.migration import Tally, compare
from videogen.store.primitives import Add, Is, MapPut, RecordStore, Set, SetPayload, Write
from videogen.store.store import Store

SOON_S = 1.0
PAIRS = ["embedded+redis", "redis+embedded", "redis+aerospike", "aerospike+redis"]
Open = Callable[[str], RecordStore]


def put(key: str = "a", *operations, **options) -> Write:
    return Write("kind", key, operations or (Set("n", 1),), **options)


def dual_of(one: RecordStore, other: RecordStore) -> DualRecordStore:
    return DualRecordStore(Side("one", lambda: one), Side("other", lambda: other))


def sides_are_same(dual: RecordStore) -> bool:
    assert isinstance(dual, DualRecordStore)
    one, other = (side.records for side in dual.pair.sides)
    return compare(one, other).is_clean and compare(other, one).is_clean


@pytest.fixture
def opened() -> Iterator[Open]:
    with ExitStack() as stack:

        def open_one(url: str) -> RecordStore:
            records = open_records(url)
            stack.callback(records.close)
            return records

        yield open_one


@pytest.fixture(params=PAIRS)
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Server]]:
    """Primary and secondary; an embedded store is no server, and nothing can be done to it."""
    with ExitStack() as stack:
        found = []
        for number, kind in enumerate(request.param.split("+")):
            if kind == "embedded":
                found.append(Server(f"embedded:{tmp_path / 'store'}", print, print, print))
            else:
                found.append(stack.enter_context(server_of(kind, tmp_path / f"server{number}")))
        yield found
        for server in found:
            server.send(signal.SIGCONT)


@pytest.fixture
def url(servers: list[Server]) -> str:
    return f"dual:{servers[0].url}|{servers[1].url}"


def is_server(server: Server) -> bool:
    return not server.url.startswith("embedded")


def test_threads_and_processes_that_write_one_record_leave_two_that_are_the_same(url, opened):
    stores = [opened(url) for _ in range(3)]
    stores[0].write(put("a", Set("n", 0)))

    def work(store: RecordStore, number: int) -> None:
        for index in range(30):
            store.write_many([put("a", Add("n", 1), MapPut(f"{number}-{index}")), put(f"b{number}", Add("n", 1))])

    threads = [threading.Thread(target=work, args=(stores[n % 3], n)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stores[0].read("kind", "a").bins == {"n": 180}
    assert len(stores[0].map_range("kind", "a")) == 180
    until(lambda: sides_are_same(stores[0]))


def test_a_write_takes_no_copy_of_a_record_unless_it_has_to(tmp_path):
    one, other = MemoryRecordStore(), MemoryRecordStore()
    dual = dual_of(one, other)
    dual.write(put("a", create="only"))
    for n in range(10):
        dual.write(put("a", Set("n", n), create="never", when=Is("n", n or 1)))
        dual.write(put("a", Set("n", n + 1)))
    assert dual.counts["mirrored"] == 21 - 9 + 9 and not dual.counts["copied"]
    dual.write_many([put(f"new{n}") for n in range(10)])
    assert not dual.counts["copied"]
    one.write(put("old"))  # from before there were two stores
    dual.write(put("old"))
    assert dual.counts["copied"] == 1
    assert sides_are_same(dual)


def test_a_record_from_before_there_were_two_is_copied_whole_at_its_first_write(tmp_path):
    one, other = MemoryRecordStore(), MemoryRecordStore()
    one.write(put("a", Set("n", 1), Set("m", 2), SetPayload(b"x"), MapPut("k", "v"), ttl=1000.0))
    other.write(put("a", Set("stale", 1), MapPut("old"), MapPut("k", "w")))
    dual = dual_of(one, other)
    dual.write(put("a", Set("n", 5)))
    assert sides_are_same(dual)
    found = other.read("kind", "a", aged=True)
    assert (found.bins["n"], found.bins["m"], found.payload) == (5, 2, b"x") and "stale" not in found.bins
    assert other.map_range("kind", "a") == [("k", "v")] and 990 < found.expires_in <= 1000


def test_while_the_other_is_dead_writes_are_accepted_and_it_gets_them_when_it_is_back(servers, url, opened):
    if not is_server(servers[1]):
        pytest.skip("an embedded store does not die")
    dual = opened(url)
    dual.write_many([put(f"k{i}", Set("n", 0)) for i in range(50)])
    servers[1].kill()
    for i in range(100):
        assert dual.write(put(f"k{i}", Set("n", i), MapPut("x"))).bins == {"n": i}
    assert sum(1 for _ in dual.pair.missed_by(dual.pair.roles().primary).marks()) == 100
    assert dual.read("kind", "k99").bins == {"n": 99}
    servers[1].start()  # empty: also what it had before is brought back
    until(lambda: sides_are_same(dual))
    assert not dual.pair.missed_by(dual.pair.roles().primary).any()
    dual.write(put("k1", Add("n", 1)))
    assert sides_are_same(dual)


def test_while_the_other_hangs_only_the_first_write_waits_for_it(servers, url, opened):
    if not is_server(servers[1]):
        pytest.skip("an embedded store does not hang")
    dual = opened(url)
    dual.write(put("a", Set("n", 0)))
    servers[1].send(signal.SIGSTOP)
    dual.write(put("a", Set("n", 1)))
    start = time.monotonic()
    for n in range(20):
        dual.write(put("a", Set("n", n)))
    assert time.monotonic() - start < 3  # one answer of a server that hangs takes as long
    servers[1].send(signal.SIGCONT)
    until(lambda: sides_are_same(dual))
    assert dual.read("kind", "a").bins == {"n": 19}


def test_while_the_primary_hangs_nothing_is_accepted_and_afterwards_all_goes_on(servers, url, opened):
    if not is_server(servers[0]):
        pytest.skip("an embedded store does not hang")
    dual = opened(url)
    dual.write(put("a", Set("n", 10)))
    servers[0].send(signal.SIGSTOP)
    for call in (lambda: dual.write(put("a", Add("n", 1))), lambda: dual.read("kind", "a"), dual.now):
        with pytest.raises(StoreUnavailable):
            call()
    servers[0].send(signal.SIGCONT)
    found = patiently(lambda: dual.write(put("a", Add("n", 100))))
    assert found.bins["n"] in (110, 111)  # the one that was refused was in doubt
    until(lambda: mended(dual))
    assert dual.read("kind", "a").bins == found.bins


def test_a_process_that_starts_while_the_other_is_dead_works_and_mends(servers, url, opened):
    if not is_server(servers[1]):
        pytest.skip("an embedded store does not die")
    opened(url).write(put("a"))
    servers[1].kill()
    dual = opened(url)
    dual.write(put("b"))
    assert dual.read("kind", "a").bins == dual.read("kind", "b").bins == {"n": 1}
    servers[1].start()
    until(lambda: sides_are_same(dual))


def test_a_primary_that_comes_back_empty_gets_back_what_was_accepted(servers, url, opened):
    if not is_server(servers[0]):
        pytest.skip("an embedded store does not die")
    dual, watcher = opened(url), opened(url)
    store = Store(dual)
    ids = [store.submit(accepted(seed)).id for seed in range(20)]
    dual.write(put("state", Set("n", 1)))
    servers[0].kill()
    with pytest.raises(StoreUnavailable):
        dual.write(put("refused"))
    servers[0].start()
    # In the order that does the most harm: writes that ask nothing, then conditions, then reads.
    patiently(lambda: watcher.write(put("state", Add("m", 1))))
    assert watcher.read("kind", "state").bins["n"] == 1
    assert watcher.write(put("state", create="only")) is None
    assert patiently(lambda: dual.write(put("state", Set("n", 2), create="never", when=Is("n", 1)))).bins == {"n": 2}
    assert [patiently(lambda one=one: store.request(one).state) for one in ids] == ["queued"] * 20
    assert {record.id for record in store.waiting()} == set(ids)
    assert dual.read("kind", "refused") is None
    until(lambda: sides_are_same(dual))
    drain_all(store)
    assert {store.request(one).state for one in ids} == {"done"}


def test_a_primary_that_lost_its_latest_writes_gets_them_back(tmp_path, opened, redis_url):
    folder, saved = tmp_path / "store", tmp_path / "saved"
    url = f"dual:embedded:{folder}|{redis_url}?namespace={tmp_path.name}"
    dual = open_records(url)
    dual.write_many([put("a", Set("n", 1)), put("b", Set("n", 1)), put("c", Set("n", 1))])
    dual.close()
    shutil.copytree(folder, saved)
    dual = open_records(url)
    dual.write_many([put("a", Set("n", 2), MapPut("k")), put("b", Set("n", 2)), put("c", Set("n", 2))])
    dual.close()
    shutil.rmtree(folder)
    saved.rename(folder)
    dual = opened(url)
    for write in (put("a", Set("n", 3), create="never", when=Is("n", 1)), put("b", Add("n", 5))):
        with pytest.raises(StoreInDoubt):  # it was judged by what the primary held
            dual.write(write)
    assert dual.write(put("a", Set("n", 3), create="never", when=Is("n", 1))) is None
    assert dual.write(put("b", Add("n", 5))).bins == {"n": 7}
    assert dual.read("kind", "a").bins == {"n": 2} and dual.map_range("kind", "a") == [("k", "")]
    assert not sides_are_same(dual)
    dual.pair.mender.wake(compare=True)
    until(lambda: sides_are_same(dual))
    assert dual.read("kind", "c").bins == {"n": 2}


def test_a_record_that_is_damaged_in_the_primary_is_read_from_the_other(tmp_path, opened, redis_url):
    import redis

    name = tmp_path.name
    dual = opened(f"dual:{redis_url}?namespace={name}|embedded:{tmp_path / 'store'}")
    dual.write(put("a", Set("n", 1), MapPut("k")))
    redis.Redis.from_url(redis_url).hset(f"{name}:{{kind:a}}", "b:n", "no JSON")
    assert dual.read("kind", "a").bins == {"n": 1}
    assert sides_are_same(dual)


def test_a_record_that_is_damaged_in_the_other_is_mended_by_its_next_write(tmp_path, opened, redis_url):
    import redis

    name = tmp_path.name
    dual = opened(f"dual:embedded:{tmp_path / 'store'}|{redis_url}?namespace={name}")
    dual.write(put("a", Set("n", 1), MapPut("k")))
    redis.Redis.from_url(redis_url).hset(f"{name}:{{kind:a}}", "w", "no time")
    assert not sides_are_same(dual)
    assert dual.write(put("a", Set("n", 2))).bins == {"n": 2}
    assert sides_are_same(dual)


@pytest.mark.slow
def test_writers_and_servers_that_are_killed_lose_nothing_that_was_accepted(servers, url, opened, tmp_path):
    if not all(map(is_server, servers)):
        pytest.skip("an embedded store does not die")
    dual, journal, names = opened(url), tmp_path / "journal", itertools.count()
    opened(url).write(put("first"))

    def start() -> subprocess.Popen:
        command = [sys.executable, "-m", "tests.store.dual_writer", url, str(journal), f"w{next(names)}"]
        return subprocess.Popen(command)

    for at, outage in enumerate([1, 0, 1, 0]):
        writers = [start(), start()]
        until(lambda at=at: journal.exists() and len(journal.read_text().splitlines()) > 200 * (at + 1))
        servers[outage].kill()
        time.sleep(SOON_S)
        servers[outage].start()
        time.sleep(SOON_S)
        for writer in writers:
            writer.kill()
            writer.wait()
        until(lambda: mended(dual))
    noted = [line.split() for line in journal.read_text().splitlines()]
    shared = {entry for page in dual.map_pages("shared", "all") for entry, _ in page}
    for key, number in noted:
        assert f"{key.partition('-')[0]}-{number}" in shared
        assert dual.read("own", key).bins["n"] >= int(number)
    assert len(noted) > 800 and dual.read("shared", "all").bins["n"] == len(shared) >= len(noted)


def mended(dual: RecordStore) -> bool:
    """Writes of killed processes that were not accepted may be in one store alone: a comparison brings them over."""
    assert isinstance(dual, DualRecordStore)
    if not sides_are_same(dual):
        dual.pair.mender.wake(compare=True)
        return False
    return not dual.pair.missed_by(dual.pair.roles().primary).any()


def test_a_name_that_is_marked_again_while_it_is_replayed_stays_marked():
    missed = Missed(MemoryRecordStore())
    missed.mark([("kind", "a"), ("kind", "b")], "1")
    marks = list(missed.marks())
    missed.mark([("kind", "a")], "2")
    missed.forget(marks)
    assert [(mark.name, mark.token) for mark in missed.marks()] == [(("kind", "a"), "2")]
    assert missed.has(("kind", "a")) and not missed.has(("kind", "b")) and missed.any()


def test_a_list_that_grew_too_long_means_everything(monkeypatch):
    monkeypatch.setattr(listing, "MOST_PER_SHARD", 3)
    one, other = MemoryRecordStore(), MemoryRecordStore()
    one.write_many([put(f"k{i}", Set("n", i)) for i in range(2000)])
    missed = Missed(one)
    for i in range(1500):
        missed.mark([("kind", f"k{i}")], str(i))
    assert sum(1 for _ in missed.marks()) < 400 and missed.full() and missed.has(("kind", "k1999"))
    replay(one, other)
    assert not missed.any() and compare(one, other).is_clean


def test_a_list_of_everything_is_kept_while_a_record_cannot_be_mended(monkeypatch):
    monkeypatch.setattr(listing, "MOST_PER_SHARD", 0)
    one, other = MemoryRecordStore(), MemoryRecordStore()
    one.write(put("a"))
    other.write(put("a", Set(REVISION, COPYING), Set(LAST_WRITE, "another")))  # it is being copied by another
    missed = Missed(one)
    for token in ("1", "2"):
        missed.mark([("kind", "a")], token)
    missed.forget(list(missed.marks()))
    replay(one, other)
    assert missed.any() and missed.has(("kind", "a"))


def test_what_the_other_missed_is_counted_and_the_primary_that_is_away_is_named(tmp_path, opened):
    with redis_server(tmp_path) as (url, server):
        dual = opened(f"dual:{url}|embedded:{tmp_path / 'other'}")
        dual.write(put("a"))
        assert dual.facts().missed == 0
        Missed(dual.pair.roles().primary.records).mark([("kind", "a"), ("kind", "b")], "1")
        assert dual.facts().missed == 2
        server.kill()
        server.wait()
        late = opened(f"dual:{url}|embedded:{tmp_path / 'other'}")
        with pytest.raises(StoreUnavailable, match=r"cut-over --to embedded:.* --lost"):
            late.read("kind", "a")


def test_of_many_processes_that_notice_an_outage_one_compares():
    one, other = MemoryRecordStore(), MemoryRecordStore()
    one.write(put("a"))

    def hinder(tally: Tally) -> None:
        with pytest.raises(Busy):
            repair_once(one, other, one.now(), print)

    since = one.now()
    repair_once(one, other, since, hinder)
    assert other.read("kind", "a") is not None
    one.write(put("b"))
    repair_once(one, other, since, print)
    assert other.read("kind", "b") is None  # it was done since then
    repair_once(one, other, one.now(), print)
    assert other.read("kind", "b") is not None


def test_a_large_map_is_copied_in_parts_and_a_copy_that_was_broken_off_is_finished(opened, redis_url, tmp_path):
    one, other = opened(f"embedded:{tmp_path}"), opened(f"{redis_url}?namespace={tmp_path.name}")
    for first in range(0, 3000, 500):
        one.write(put("a", Set("n", 1), *(MapPut(f"{first + i:06d}") for i in range(500))))
    other.write(put("a", Set(REVISION, COPYING), Set(LAST_WRITE, "died"), MapPut("000001"), MapPut("zzz")))
    dual = dual_of(one, other)
    dual.write(put("a", Set("n", 2)))
    assert dual.pair.missed_by(dual.pair.roles().primary).has(("kind", "a"))  # it may still be alive
    until(lambda: sides_are_same(dual))
    assert len(other.map_range("kind", "a", limit=5000)) == 3000


@pytest.mark.parametrize("url", ["dual:memory:", "dual:memory:|memory:", "dual:memory:|nothing:x", "dual:a|b|c"])
def test_a_pair_that_is_none_is_refused(url):
    with pytest.raises(InvalidStoreUrl):
        open_records(url)


def test_a_pointer_that_was_read_is_asked_again_after_a_while(tmp_path, opened, redis_url):
    url = f"embedded:{tmp_path}|{redis_url}?namespace={tmp_path.name}"
    one, turned = opened(f"dual:{url}"), opened("dual:" + "|".join(reversed(url.split("|"))))
    assert one.pair.roles().primary.name == turned.pair.roles().primary.name
    seen = one.pair.roles().seen_at
    time.sleep(POINTER_S + 0.1)
    assert one.pair.roles().seen_at > seen
