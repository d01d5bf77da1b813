"""What has ended, newest first, in records that do not all end up as one."""

import itertools

from tests.store.builders import Clock
from videogen.store import index
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.index import HOUR, PAGE, SHARDS, Journal
from videogen.store.primitives import MapPut, Write

KEEP_S = 3.0 * HOUR


def test_an_hour_is_read_newest_first_and_each_once_however_many(records):
    journal, ids = Journal(records, "requests", KEEP_S), [f"{n:05d}" for n in range(2 * PAGE + 7)]
    records.write(journal.put(*ids))
    records.write_many([journal.put(one) for one in ids[::50]])
    found = list(journal.latest())
    assert sorted(set(found), reverse=True) == ids[::-1]
    assert found == ids[::-1] or set(found[: len(found) - len(ids)]) <= set(ids)  # an hour may have ended meanwhile


def test_no_record_of_an_hour_holds_more_than_its_share():
    records = MemoryRecordStore(Clock())
    journal = Journal(records, "requests", KEEP_S)
    for n in range(3200):
        records.write(journal.put(f"{n:05d}"))
    sizes = [len(records.map_range(kind, key)) for kind, key in records.names()]
    assert len(sizes) == SHARDS and max(sizes) < 2 * 3200 / SHARDS


def test_what_was_written_before_hours_had_shards_is_read():
    clock = Clock()
    records = MemoryRecordStore(clock)
    records.write(Write("ended-requests", str(int(records.now() // HOUR)), (MapPut("a"),)))
    journal = Journal(records, "requests", KEEP_S)
    clock.pass_(HOUR)
    records.write_many([journal.put("b"), journal.put("c")])
    assert list(journal.latest()) == ["c", "b", "a"]
    clock.pass_(KEEP_S + HOUR)
    assert list(journal.latest()) == []


def test_a_quiet_week_is_looked_through_in_a_few_calls_and_nothing_of_it_is_missed(records):
    keep, now = 7 * 24.0 * HOUR, records.now()
    journal, calls = Journal(records, "requests", keep), []
    ids = [f"{age:03d}" for age in range(0, 168, 5)]
    records.write_many([journal.put(one, at=now - HOUR * int(one)) for one in ids])
    heads = records.map_heads
    records.map_heads = lambda *given: calls.append(given) or heads(*given)
    assert list(journal.latest()) == ids and len(calls) < 20
    records.write_many([journal.put(f"{n:05d}", at=now - HOUR) for n in range(2 * PAGE)])
    assert set(itertools.islice(journal.latest(), 2 * PAGE + 2)) >= {f"{n:05d}" for n in range(2 * PAGE)}


def test_after_a_quiet_spell_no_more_than_the_latest_busy_hour_is_read_whole(monkeypatch):
    monkeypatch.setattr(index, "PAGE", 4)
    records, keep = MemoryRecordStore(Clock()), 48.0 * HOUR
    journal, now = Journal(records, "requests", keep), records.now()
    for age in range(16, 40):
        records.write_many([journal.put(f"{age:02d}-{n:03d}", at=now - HOUR * age) for n in range(200)])
    page, read = records.map_range, set()
    monkeypatch.setattr(records, "map_range", lambda kind, key, *rest: read.add(key) or page(kind, key, *rest))
    monkeypatch.setattr(records, "map_heads", lambda kind, keys, limit: [page(kind, key, "", limit) for key in keys])
    assert next(journal.latest()) == "16-199"
    assert len({key.partition("/")[0] for key in read}) == 1
