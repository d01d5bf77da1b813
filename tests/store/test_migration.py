"""Copies between real backends, broken off and started again."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from contextlib import closing

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import aerospike_url
from tests.store.builders import Clock, accepted, drain_all
from videogen.cli import app
from videogen.errors import InvalidRequest
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.moving.migration import compare, copy
from videogen.store.moving.target import KIND, migrate
from videogen.store.primitives import MapPut, MapRemove, Set, SetPayload, Write
from videogen.store.records import Champion
from videogen.store.store import Store


def fill(store: Store) -> list[str]:
    """Requests in every state, a video of several chunks, a champion."""
    store.promote("m", Champion("d" * 64, "m@1", {}), 0)
    done = [store.submit(accepted(seed)).id for seed in range(20)]
    drain_all(store)
    waiting = [store.submit(accepted(seed)).id for seed in range(100, 130)]
    store.cancel(waiting[0])
    batch = store.seal_batch(waiting[1:5], 600.0)
    (claim, *_) = store.claim(batch.id, "worker", 600.0, limit=2)
    store.publish(claim, bytes(1_200_000), {"engine": "none"})
    return done + waiting


def test_a_store_goes_on_where_it_was_copied_to(records, tmp_path):
    old = Store(open_records(f"embedded:{tmp_path / 'old'}"))
    ids = fill(old)
    found = migrate(old.records, records, "old")
    assert found.copied == found.seen > 100 and found.is_clean
    new = Store(records)
    assert [new.request(one).state for one in ids] == [old.request(one).state for one in ids]
    for one in ids[:3]:
        assert new.read_video(new.request(one).video) == old.read_video(old.request(one).video)
    assert new.champion("m").label == "m@1"
    new.recover()
    for batch in new.batches("running"):
        new.give_back(batch.id, "moved")
    drain_all(new)
    assert {new.request(one).state for one in ids} == {"done", "cancelled"}
    old.close()


def test_a_second_pass_copies_what_changed_and_nothing_else(records, tmp_path):
    old = open_records(f"embedded:{tmp_path / 'old'}")
    old.write(Write("kind", "a", (Set("n", 1), Set("gone", "x"), MapPut("k", "1"), MapPut("l", "2"))))
    old.write(Write("kind", "b", (SetPayload(b"\0\xff"),), ttl=1000.0))
    assert migrate(old, records, "old").copied == 2
    again = migrate(old, records, "old")
    assert (again.copied, again.same) == (0, 2)
    old.write(Write("kind", "a", (Set("n", 2), Set("gone", None), MapRemove("k"), MapPut("m"))))
    assert compare(old, records).different == ("kind a",)
    third = migrate(old, records, "old")
    assert (third.copied, third.same) == (1, 1)
    assert records.read("kind", "a").bins == {"n": 2}
    assert records.map_range("kind", "a") == [("l", "2"), ("m", "")]
    assert 900 < records.read("kind", "b", aged=True).expires_in <= 1000
    assert compare(old, records).is_clean
    old.close()


def test_a_changed_payload_or_expiry_is_a_difference(tmp_path):
    old, new = MemoryRecordStore(), MemoryRecordStore()
    for store in (old, new):
        store.write(Write("kind", "a", (SetPayload(b"one"),), ttl=1000.0))
    assert compare(old, new).is_clean
    new.write(Write("kind", "a", (SetPayload(b"two"),)))
    assert compare(old, new).different == ("kind a",)
    copy(old, new)
    new.write(Write("kind", "a", (), ttl=5.0))
    assert compare(old, new).different == ("kind a",)


def test_the_command_says_what_it_did_and_fails_where_something_differs(tmp_path, redis_url):
    source, target = f"embedded:{tmp_path / 'old'}", f"{redis_url}?namespace={tmp_path.name}"
    old = Store(open_records(source))
    fill(old)
    run = CliRunner()
    first = run.invoke(app, ["store", "migrate", "--from", source, "--to", target, "--verify"])
    assert first.exit_code == 0, first.output
    assert "records copied, 0 were there already" in first.stdout and "records are the same" in first.stdout
    second = run.invoke(app, ["store", "migrate", "--from", source, "--to", target])
    assert second.stdout.startswith("0 records copied")
    same = run.invoke(app, ["store", "migrate", "--from", source, "--to", source])
    assert same.exit_code == 2 and "another store" in same.stderr
    old.close()


def test_a_target_that_took_requests_in_is_refused_and_keeps_them(records, tmp_path):
    old, new = Store(open_records(f"embedded:{tmp_path / 'old'}")), Store(records)
    fill(old)
    own = [new.submit(accepted(seed)).id for seed in range(200, 320)]
    before = sorted(records.names())
    with pytest.raises(InvalidRequest, match=r"120 request.*--into-used"):
        migrate(old.records, records, "old")
    assert sorted(records.names()) == before
    assert {one.id for one in new.requests(limit=1000)} == set(own)
    old.close()


def test_a_target_in_use_is_added_to_and_loses_nothing(records, tmp_path):
    old, new = Store(open_records(f"embedded:{tmp_path / 'old'}")), Store(records)
    theirs = fill(old)
    new.promote("m", Champion("e" * 64, "m@2", {}), 0)
    own = [new.submit(accepted(seed)).id for seed in range(200, 320)]
    found = migrate(old.records, records, "old", into_used=True)
    assert "champion m" in found.different and new.champion("m").label == "m@2"
    assert set(own) <= {one.id for one in new.requests(("queued",), limit=1000)}
    assert migrate(old.records, records, "old").copied == 0  # it stays a store with records of its own
    assert set(compare(old.records, records, joined=True).different) == set(found.different)
    assert set(compare(old.records, records).different) > set(found.different)
    new.recover()
    for batch in new.batches("running"):
        new.give_back(batch.id, "moved")
    drain_all(new)
    assert {new.request(one).state for one in own} == {"done"}
    assert {new.request(one).state for one in theirs} == {"done", "cancelled"}
    old.close()


def test_a_catch_up_goes_on_until_the_target_is_used(records, tmp_path):
    old, new = Store(open_records(f"embedded:{tmp_path / 'old'}")), Store(records)
    fill(old)
    migrate(old.records, records, "old")
    for batch in old.batches("running"):
        old.give_back(batch.id, "again")
    drain_all(old)
    old.records.write(Write("kind", "passing", (Set("n", 1),), ttl=1000.0))
    later = old.submit(accepted(500)).id
    assert migrate(old.records, records, "old").copied > 0
    old.records.write(Write("kind", "passing", (), ttl=0.001))  # gone there, not here: it was copied
    assert migrate(old.records, records, "old").is_clean and new.request(later).state == "queued"
    mine = new.submit(accepted(501)).id
    with pytest.raises(InvalidRequest, match="1 request,"):
        migrate(old.records, records, "old")
    assert new.request(mine).state == "queued"
    assert mine in {one.id for one in new.requests(("queued",))}
    old.close()


def test_a_copied_record_that_the_target_went_on_with_is_not_taken_back():
    clock = Clock()
    old, new = MemoryRecordStore(clock), MemoryRecordStore(clock)
    old.write(Write("request", "a", (Set("state", "queued"),)))
    migrate(old, new, "old")
    clock.pass_(60)
    old.write(Write("request", "a", (Set("state", "cancelled"),)))
    assert migrate(old, new, "old").copied == 1
    clock.pass_(60)
    new.write(Write("request", "a", (Set("state", "done"),)))
    with pytest.raises(InvalidRequest, match=r"1 request; the first: request a"):
        migrate(old, new, "old")
    assert new.read("request", "a").bins == {"state": "done"}


def test_the_copy_of_another_store_is_refused(tmp_path):
    one, two, target = (open_records(f"embedded:{tmp_path / name}") for name in ("one", "two", "target"))
    one.write(Write("kind", "a", (Set("n", 1),)))
    two.write(Write("kind", "b", (Set("n", 1),)))
    migrate(one, target, "one")
    with pytest.raises(InvalidRequest, match="the first: kind a"):
        migrate(two, target, "two")
    assert migrate(one, target, "one").same == 1
    for store in (one, two, target):
        store.close()


def test_the_command_refuses_a_store_in_use_until_it_is_told_otherwise(tmp_path, redis_url):
    source, target = f"embedded:{tmp_path / 'old'}", f"{redis_url}?namespace={tmp_path.name}"
    old, new = Store.open(source), Store.open(target)
    fill(old)
    own = new.submit(accepted(700)).id
    command = ["store", "migrate", "--from", source, "--to", target, "--verify"]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2 and "1 request" in refused.stderr and "--into-used" in refused.stderr
    told = CliRunner().invoke(app, [*command, "--into-used"])
    assert told.exit_code == 0 and "stays as --to has it: turns" in told.stderr, told.output
    assert new.request(own).state == "queued" and own in {one.id for one in new.requests(("queued",), limit=1000)}
    old.close()
    new.close()


@pytest.mark.slow
def test_a_copy_that_is_killed_is_finished_by_the_next(tmp_path, redis_url):
    source, target = f"embedded:{tmp_path / 'old'}", f"{redis_url}?namespace={tmp_path.name}"
    old = open_records(source)
    old.write_many([Write("kind", f"{i}", (Set("n", i), SetPayload(os.urandom(2000)))) for i in range(6000)])
    new = open_records(target)
    code = "from videogen.cli import app; app()"
    command = [sys.executable, "-c", code, "store", "migrate", "--from", source, "--to", target]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while new.read("kind", "1000") is None:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    copied = sum(kind != KIND for kind, _ in new.names())
    assert 0 < copied < 6000
    again = CliRunner().invoke(app, command[3:])
    assert again.exit_code == 0, again.output
    there = int(again.stdout.split(" records copied, ")[1].split()[0].replace(",", ""))
    assert there >= copied - 1
    assert compare(old, new).is_clean and json.dumps(compare(old, new).by_kind) == '{"kind": 6000}'
    old.close()
    new.close()


def test_an_aerospike_namespace_that_also_holds_what_no_store_wrote_is_copied(tmp_path):
    url = f"{aerospike_url()}?prefix=k{uuid.uuid4().hex[:8]}"
    with closing(open_records(url)) as source, closing(open_records(f"embedded:{tmp_path}")) as target:
        source.write(Write("kind", "a", (Set("n", 1),)))
        client, key = source.client, source._key("kind", "without a key")
        client.put(key, {"n": 1})
        assert list(source.names()) == [("kind", "a")]
        assert migrate(source, target, "old").copied == 1
        client.remove(key)
