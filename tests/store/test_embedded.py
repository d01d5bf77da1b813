import errno
import os
import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from videogen.errors import RecordDamaged, StoreUnavailable
from videogen.store.backends import clock
from videogen.store.backends import embedded as embedded_module
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.primitives import MapPut, Set, Write

KILLED = """
import os, signal, sys
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.primitives import Set, Write
records = EmbeddedRecordStore(sys.argv[1])
records.write(Write("kind", "before", (Set("n", 1),)))
with records.together():
    records.write_many([Write("kind", key, (Set("n", 1),)) for key in ("in", "too")])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def put(key, *operations, **options):
    return Write("kind", key, operations or (Set("n", 1),), **options)


@pytest.fixture
def records(tmp_path):
    store = EmbeddedRecordStore(tmp_path)
    yield store
    store.close()


def damage(records, sql):
    with sqlite3.connect(records.path) as connection:
        connection.execute(sql)


@pytest.mark.parametrize("text", ["'{broken'", "'[1]'", "x'ff00'", "''"])
def test_a_damaged_record_spoils_nobody_elses_read_or_write(records, text):
    records.write_many([put("a"), put("b")])
    damage(records, f"UPDATE records SET bins = {text} WHERE key = 'a'")
    found = records.read_many("kind", ["a", "b"])
    assert isinstance(found[0], RecordDamaged) and found[1].bins == {"n": 1}
    with pytest.raises(RecordDamaged, match="kind a"):
        records.read("kind", "a")
    refused, done = records.write_many([put("a", create="never"), put("b", Set("n", 2), create="never")])
    assert refused is None and done.bins == {"n": 2}
    assert records.write(put("a", create="only")) is None
    assert records.write(put("a", MapPut("entry"))).bins == {} and records.read("kind", "a").bins == {}
    damage(records, f"UPDATE records SET bins = {text} WHERE key = 'a'")
    assert records.write(put("a", Set("m", 1))).bins == {"m": 1}


def test_another_process_sees_what_was_written_and_the_same_time(records, tmp_path):
    records.write(put("a"))
    other = EmbeddedRecordStore(tmp_path)
    assert other.read("kind", "a").bins == {"n": 1}
    assert other.now() == pytest.approx(records.now(), abs=0.5)
    other.close()


def test_after_a_restart_of_the_machine_the_clock_goes_on(tmp_path, monkeypatch):
    first = EmbeddedRecordStore(tmp_path)
    first.write(put("a"))
    before = first.now()
    first.close()
    monkeypatch.setattr(embedded_module, "boot_id", lambda: "another boot")
    for module in (embedded_module, clock):
        monkeypatch.setattr(module, "boot_seconds", lambda: 3.0)
    monkeypatch.setattr(clock.time, "time", lambda: 5.0)  # and the wall clock was set back by years
    again = EmbeddedRecordStore(tmp_path)
    assert again.now() == pytest.approx(before, abs=1.0) and again.now() >= before - 0.01
    assert again.read("kind", "a", aged=True).age >= 0
    again.close()


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file/store"):
        EmbeddedRecordStore(tmp_path / "file" / "store")


def test_a_file_that_is_no_database_is_an_error_that_names_it(tmp_path):
    (tmp_path / "store.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(StoreUnavailable, match=r"store\.db"):
        EmbeddedRecordStore(tmp_path)


def test_an_error_within_a_call_leaves_nothing_of_it(records, monkeypatch):
    calls = []

    def fail_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(embedded_module, "_write_map", fail_at_the_second)
    with pytest.raises(StoreUnavailable, match="disk I/O error"):
        records.write_many([put("a"), put("b")])
    monkeypatch.undo()
    assert records.read_many("kind", ["a", "b"]) == [None, None]
    assert records.write(put("a")) is not None


def test_writers_of_one_process_never_find_the_file_locked(records, monkeypatch):
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, timeout, **options: connect(path, 0.0, **options))
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda n: records.write(put(f"{n}")), range(400)))
    assert None not in done


def test_a_flush_syncs_the_log_that_holds_the_write(records, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    records.write(put("a"))
    records.flush()
    assert synced == [f"{records.path}-wal", str(records.path.parent)]
    records.flush()
    assert synced[2:] == [f"{records.path}-wal"]
    assert records.read("kind", "a") is not None


def test_a_flush_that_fails_says_so(records, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        records.flush()
    monkeypatch.undo()
    with pytest.raises(StoreUnavailable, match="an earlier sync failed"):
        records.flush()


def test_writers_wait_no_longer_for_each_other_than_for_another_process(records, monkeypatch):
    monkeypatch.setattr(embedded_module, "BUSY_SECONDS", 0.05)
    with records._writing, pytest.raises(StoreUnavailable, match="others have been writing"):
        records.write(put("a"))
    assert records.write(put("a")) is not None


def test_a_child_needs_no_lock_of_its_parents(records):
    records.write(put("a"))
    with records._writing:
        child = os.fork()
        if not child:
            records.write(put("b"))
            records.flush()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    assert records.read("kind", "b") is not None


def test_a_block_is_seen_by_others_when_it_is_left_and_by_nobody_if_its_process_is_killed_in_it(records, tmp_path):
    other = EmbeddedRecordStore(tmp_path)
    with records.together():
        records.write(put("a"))
        assert records.read("kind", "a") and other.read("kind", "a") is None
    assert other.read("kind", "a").bins == {"n": 1}
    other.close()
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [records.read("kind", key) is not None for key in ("before", "in", "too")] == [True, False, False]


def test_a_block_whose_write_fails_leaves_nothing_of_it_and_the_next_one_works(records):

    def broken() -> None:
        with records.together():
            records.write(put("a"))
            with records._connection() as connection:
                connection.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(StoreUnavailable, match="nowhere"):
        broken()
    with records.together():
        records.write(put("b"))
    assert records.read("kind", "a") is None and records.read("kind", "b").bins == {"n": 1}
