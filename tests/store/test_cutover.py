"""The primary of two real stores is changed, and changed back, while others write."""

import json
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import redis_server
from tests.store.builders import accepted, drain_all
from tests.store.servers import server_of, until
from videogen.cli import app
from videogen.errors import InvalidRequest, RecordNotFound, StoreConflict, StoreUnavailable
from videogen.store.backends.catalog import open_records
from videogen.store.backends.dual import pointer, roles
from videogen.store.backends.dual.pair import DualRecordStore
from videogen.store.backends.dual.sides import Side
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.moving import cutover
from videogen.store.moving.migration import compare
from videogen.store.primitives import Add, Is, MapPut, Set, Write
from videogen.store.store import Store


def put(key: str = "a", *operations, **options) -> Write:
    return Write("kind", key, operations or (Set("n", 1),), **options)


def in_memory() -> DualRecordStore:
    one, other = MemoryRecordStore(), MemoryRecordStore()
    return DualRecordStore(Side("one", lambda: one), Side("other", lambda: other))


@pytest.fixture
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """For stores that answer at once."""
    for module in (roles, cutover):
        monkeypatch.setattr(module, "CALL_S", 0.1)
        monkeypatch.setattr(module, "POINTER_S", 0.1)


@pytest.mark.slow
@pytest.mark.parametrize("kinds", ["embedded redis", "redis aerospike", "aerospike redis"])
def test_writers_lose_nothing_while_the_primary_is_changed_and_changed_back(kinds, tmp_path):
    one, other = kinds.split()
    first = f"embedded:{tmp_path / 'store'}"
    with server_of("redis" if one == "embedded" else one, tmp_path / "one") as a, server_of(other, tmp_path / "b") as b:
        urls = [first if one == "embedded" else a.url, b.url]
        old = Store.open(urls[0])
        ids = [old.submit(accepted(seed)).id for seed in range(30)]
        old.close()
        url, stop, errors, counts = f"dual:{'|'.join(urls)}", threading.Event(), [], [0, 0, 0]
        CliRunner().invoke(app, ["store", "repair", url])

        def work(number: int) -> None:
            records = open_records(url)
            while not stop.is_set():
                try:
                    records.write_many(
                        [put("n", Add("n", 1), MapPut(f"{number}-{counts[number]:06d}")), put(f"{number}")]
                    )
                    counts[number] += 1
                except StoreUnavailable as error:
                    errors.append(error)
            records.close()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        dual = open_records(url)
        try:
            for arguments, primary in (
                (["--to", urls[1]], urls[1]),
                (["--undo"], urls[0]),
                (["--to", urls[1]], urls[1]),
            ):
                found = CliRunner().invoke(app, ["store", "cut-over", "--store", url, *arguments])
                assert found.exit_code == 0, found.output
                assert found.stdout.rstrip().endswith(f"the primary is {primary}")
                before = list(counts)
                until(lambda before=before: all(n > m + 20 for n, m in zip(counts, before, strict=True)))
                assert dual.pair.roles().primary.name == primary
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not errors
        assert dual.read("kind", "n").bins == {"n": sum(counts)}
        assert sum(len(page) for page in dual.map_pages("kind", "n")) == sum(counts)
        until(lambda: compare(*(side.records for side in dual.pair.sides)).is_clean)
        dual.close()
        new = Store.open(urls[1])  # the old one is given up
        drain_all(new)
        assert {new.request(one).state for one in ids} == {"done"}
        new.close()


def test_a_process_follows_the_pointer_without_a_restart(briefly):
    dual = in_memory()
    sides = dual.pair.sides
    other = DualRecordStore(*sides)
    assert [one.pair.roles().primary.name for one in (dual, other)] == ["one", "one"]
    cutover.cut_over(dual, "other")
    time.sleep(0.2)
    assert other.pair.roles().primary.name == "other"
    sides[0].records.write(put("x"))  # by somebody who should not
    other.write(put("a", Set("n", 5)))
    assert sides[1].records.read("kind", "a").bins["n"] == 5
    assert cutover.undo(dual).primary == "one" and cutover.undo(dual).primary == "other"
    history = pointer.history(sides[0].records)
    assert [(one.primary, one.moving_to) for one in history][:4] == [
        ("one", None), ("one", "other"), ("other", None), ("other", "one")
    ]  # fmt: skip


def test_a_write_that_began_before_and_arrives_after_a_cut_over_is_accepted_only_if_it_counts(briefly):
    dual = in_memory()
    late, sides = DualRecordStore(*dual.pair.sides), dual.pair.sides
    dual.write(put("a", Set("n", 1)))
    judged = late._judged

    def slowly(roles, writes):
        cutover.cut_over(dual, "other")
        time.sleep(0.2)
        dual.write(put("a", Set("n", 7)))
        return judged(roles, writes)

    late._judged = slowly
    with pytest.raises(StoreUnavailable):
        late.write(put("a", Set("n", 2), create="never", when=Is("n", 7)))
    time.sleep(0.2)
    assert dual.read("kind", "a").bins == {"n": 7} or dual.read("kind", "a").bins == {"n": 2}
    dual.write(put("a", Add("m", 1)))
    assert compare(*(side.records for side in sides)).is_clean


def test_while_it_is_moved_reads_go_on_and_writes_wait(briefly):
    dual = in_memory()
    dual.write(put("a"))
    standing = pointer.newest(dual.pair.sides, None)
    records = dual.pair.sides[0].records
    pointer.move(records, standing, pointer.next_move(standing, "one", "other"))
    time.sleep(0.2)
    done = threading.Event()
    threading.Thread(target=lambda: (dual.write(put("b")), done.set())).start()
    assert dual.read("kind", "a") is not None
    assert not done.wait(0.5)
    with pytest.raises(StoreConflict, match="being moved"):
        cutover.cut_over(dual, "other")
    assert cutover.undo(dual).primary == "one"
    assert done.wait(5)


def test_a_cut_over_that_was_broken_off_ends_by_itself(briefly, monkeypatch):
    dual = in_memory()
    standing = pointer.newest(dual.pair.sides, None)
    pointer.move(dual.pair.sides[0].records, standing, pointer.next_move(standing, "one", "other"))
    monkeypatch.setattr(roles, "MOVING_S", 0.5)
    time.sleep(0.2)  # until it looks again
    assert dual.write(put("a")) is not None
    assert pointer.newest(dual.pair.sides, None).moves == standing.moves + 2


def test_two_that_cannot_be_made_the_same_stay_as_they_are(briefly, monkeypatch):
    dual = in_memory()
    dual.write(put("a"))
    dual.pair.sides[1].records._clock = lambda: time.monotonic() + 60
    with pytest.raises(StoreConflict, match=r"clock .* ahead"):
        cutover.cut_over(dual, "other")
    dual.pair.sides[1].records._clock = time.monotonic
    monkeypatch.setattr(cutover, "_is_same", lambda *_: False)
    monkeypatch.setattr(cutover, "_compared", lambda *_: [("kind", "a")])
    with pytest.raises(StoreConflict, match="1 records differ"):
        cutover.cut_over(dual, "other")
    standing = pointer.newest(dual.pair.sides, None)
    assert (standing.primary, standing.moving_to) == ("one", None)
    assert dual.write(put("b")) is not None


def test_what_is_wrong_is_named(tmp_path, redis_url):
    dual = in_memory()
    with pytest.raises(InvalidRequest, match="one or other"):
        cutover.cut_over(dual, "nobody")
    with pytest.raises(RecordNotFound, match="nothing to undo"):
        cutover.undo(dual)
    with pytest.raises(InvalidRequest, match="does not answer"):
        cutover.give_up_primary(dual, "other")
    run, url = CliRunner(), f"dual:embedded:{tmp_path}|{redis_url}?namespace={tmp_path.name}"
    open_records(url).close()
    for arguments in (
        ["cut-over", "--store", url],
        ["cut-over", "--store", redis_url, "--undo"],
        ["compare", redis_url],
    ):
        found = run.invoke(app, ["store", *arguments])
        assert found.exit_code == 2 and "allowed" in found.stderr


def test_a_primary_that_is_gone_is_given_up_and_taken_back_when_it_returns(tmp_path):
    with redis_server(tmp_path) as (url, process):
        urls = f"embedded:{tmp_path / 'store'}", url
        dual_url = f"dual:{urls[1]}|{urls[0]}"
        dual = open_records(dual_url)
        dual.write(put("a", Set("n", 1)))
        process.kill()
        process.wait()
        with pytest.raises(StoreUnavailable):
            dual.write(put("a", Set("n", 2)))
        dual.close()
        found = CliRunner().invoke(app, ["store", "cut-over", "--store", dual_url, "--to", urls[0], "--lost"])
        assert found.exit_code == 0, found.output
        dual = open_records(dual_url)
        assert dual.write(put("a", Add("n", 10))).bins == {"n": 11}
        with redis_server(tmp_path, port=int(url.rpartition(":")[2])):
            until(lambda: compare(*(side.records for side in reversed(dual.pair.sides))).is_clean)
            assert open_records(url).read("kind", "a").bins["n"] == 11
        dual.close()


def test_the_commands_say_what_differs_and_mend_it(tmp_path, redis_url):
    url = f"dual:embedded:{Path(tmp_path)}|{redis_url}?namespace={tmp_path.name}"
    run, dual = CliRunner(), open_records(url)
    dual.write_many([put(f"k{n}", Set("n", n)) for n in range(10)])
    dual.pair.sides[1].records.write(put("k3", Set("n", 99)))
    found = run.invoke(app, ["store", "compare", url])
    assert found.exit_code == 1 and "1 differ" in found.stdout and "differs: kind k3" in found.stderr
    dual.pair.missed_by(dual.pair.sides[0]).mark([("kind", "k4")], "1")
    found = run.invoke(app, ["store", "doctor", url])
    assert found.exit_code == 1 and "the other: redis" in found.stdout and "1 records missed" in found.stdout
    found = run.invoke(app, ["store", "repair", url])
    assert found.exit_code == 0 and "1 made the same, 9 were the same" in found.stdout
    found = run.invoke(app, ["store", "compare", url])
    assert found.exit_code == 0 and "10 of 10 records" in found.stdout
    assert json.dumps(dual.pair.sides[1].records.read("kind", "k3").bins["n"]) == "3"
    dual.close()
