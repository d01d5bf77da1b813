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
from tests.store.builders import accepted, drain_all
from videogen.cli import app
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.moving.migration import compare, migrate
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
    found = migrate(old.records, records)
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
    assert migrate(old, records).copied == 2
    again = migrate(old, records)
    assert (again.copied, again.same) == (0, 2)
    old.write(Write("kind", "a", (Set("n", 2), Set("gone", None), MapRemove("k"), MapPut("m"))))
    assert compare(old, records).different == ("kind a",)
    third = migrate(old, records)
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
    migrate(old, new)
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
    copied = sum(1 for _ in new.names())
    assert 0 < copied < 6000
    found = migrate(old, new)
    assert found.same >= copied - 1 and found.copied + found.same == 6000
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
        assert migrate(source, target).copied == 1
        client.remove(key)
