"""What has ended, newest first, in records that do not all end up as one."""

from tests.store.builders import Clock
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
