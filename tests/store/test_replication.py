"""Finished videos from one real store to another: all of them, nothing else, and never anything that is wrong."""

import contextlib
import hashlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import redis_server
from tests.sensors.making import DyingRecords, Killed
from tests.store.builders import accepted, drain_all, put_video
from tests.store.test_video_streaming import content
from videogen.cli import app
from videogen.errors import StoreError
from videogen.requests import AcceptedRequest, new_id
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.moving import replication
from videogen.store.moving.replication import Pass, Replicator
from videogen.store.primitives import RecordStore, SetPayload, Write
from videogen.store.records import Champion, StoreLimits
from videogen.store.store import Store
from videogen.store.videos import CHUNK_BYTES

UNCACHED = StoreLimits(local_cache_bytes=0)


def publish(store: Store, seed: int, size: int = 1000) -> AcceptedRequest:
    request = accepted(seed)
    store.submit(request)
    (claim,) = store.claim([request.id], "worker", 60.0)
    store.publish(claim, content(size, seed), {"seed": seed})
    return request


def answer(store: Store, request: AcceptedRequest) -> bytes | None:
    """What a store answers to the same request at once, None if it has to be made."""
    record = store.submit(request.model_copy(update={"id": new_id()}))
    return store.read_video(record.video) if record.state == "done" and record.video else None


def copy(source: RecordStore, target: RecordStore, **options) -> Pass:
    return Replicator(source, target, "a").run(**options)


@pytest.fixture
def source(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'source'}", UNCACHED) as store:
        yield store


@pytest.fixture(params=["to", "from"])
def pair(request, records, tmp_path):
    """Each backend as the second store, and as the first one."""
    if isinstance(records, MemoryRecordStore):
        pytest.skip("its clock is its process's own")
    other = open_records(f"embedded:{tmp_path / 'other'}")
    one, two = (other, records) if request.param == "to" else (records, other)
    yield Store(one, UNCACHED), Store(two, UNCACHED)
    other.close()


def test_the_second_store_answers_what_the_first_one_made(pair):
    first, second = pair
    requests = [publish(first, 1), publish(first, 2, 2 * CHUNK_BYTES + 7), publish(first, 3, 0)]
    done = copy(first.records, second.records)
    assert (done.videos, done.generations, done.bytes, done.left) == (3, 3, 2 * CHUNK_BYTES + 1007, 0)
    for request, size in zip(requests, (1000, 2 * CHUNK_BYTES + 7, 0), strict=True):
        assert answer(second, request) == content(size, request.request.seed)
    digest = first.request(requests[0].id).video
    assert second.video(digest).provenance == first.video(digest).provenance == {"seed": 1}
    assert second.video(digest).expires_at == first.video(digest).expires_at
    expiries = [store.records.read("chunk", f"{digest}/000000", aged=True).expires_in for store in (first, second)]
    assert abs(expiries[0] - expiries[1]) < 10


def test_nothing_else_is_copied(pair):
    first, second = pair
    publish(first, 1)
    first.promote("m", Champion("d" * 64, "m@1", {}), 0)
    first.submit(accepted(2))
    (claim,) = first.claim([first.submit(accepted(3)).id], "worker", 60.0)
    copy(first.records, second.records)
    assert {kind for kind, _ in second.records.names()} == {"video", "chunk", "generation", "replica"}
    assert list(second.records.keys("generation")) != [] and claim.generation not in second.records.keys("generation")


def test_a_further_pass_looks_only_at_what_was_written_since(pair, monkeypatch):
    monkeypatch.setattr(replication, "OVERLAP_S", 0.0)
    first, second = pair
    for seed in range(5):
        publish(first, seed)
    assert copy(first.records, second.records).seen == 10
    time.sleep(0.1)
    assert copy(first.records, second.records) == Pass(lag_s=pytest.approx(0, abs=60))
    request = publish(first, 9)
    done = copy(first.records, second.records)
    assert (done.seen, done.videos, done.generations) == (2, 1, 1) and answer(second, request) is not None
    everything = copy(first.records, second.records, from_start=True)
    assert (everything.seen, everything.videos, everything.generations) == (12, 0, 0)


def test_a_video_that_is_made_again_lives_on_and_keeps_whose_it_was(pair):
    first, second = pair
    publish(first, 1)
    (digest,) = first.records.keys("video")
    copy(first.records, second.records)
    put_video(second._videos, "own", content(1000, 1), {"made": "here"})
    later = Store(first.records, StoreLimits(keep_videos=90 * 86_400.0, local_cache_bytes=0))
    put_video(later._videos, "again", content(1000, 1), {"made": "there again"})
    assert copy(first.records, second.records).videos == 1
    assert second.video(digest).expires_at == first.video(digest).expires_at
    assert second.video(digest, "own").provenance == {"made": "here"}
    assert second.video(digest, "again").provenance == {"made": "there again"}
    assert copy(first.records, second.records).videos == 0


def test_one_that_expires_later_there_is_left_alone(source):
    second = Store(MemoryRecordStore(source.records.now), StoreLimits(keep_videos=90 * 86_400.0))
    publish(source, 1)
    (digest,) = source.records.keys("video")
    put_video(second._videos, "own", content(1000, 1))
    until = second.video(digest).expires_at
    assert copy(source.records, second.records).videos == 0 and second.video(digest).expires_at == until


def test_what_the_second_store_makes_stays_its_own(source):
    second = Store(MemoryRecordStore(source.records.now), UNCACHED)
    made, making, failed = (publish(source, seed) for seed in (1, 2, 3))
    for request in (made, making, failed):
        second.submit(request)
    own, held, lost = (second.claim([request.id], "worker", 60.0)[0] for request in (made, making, failed))
    second.publish(own, b"made here", {})
    second.fail(lost, "no", retry=False)
    done = copy(source.records, second.records)
    assert (done.videos, done.generations) == (3, 1)
    assert answer(second, made) == b"made here" and answer(second, failed) == content(1000, 3)
    second.publish(held, b"made here too", {})
    assert answer(second, making) == b"made here too"


def test_a_request_that_waits_at_the_second_store_is_answered_by_a_copy(source):
    second = Store(MemoryRecordStore(source.records.now), UNCACHED)
    request = publish(source, 1)
    second.submit(request)
    assert copy(source.records, second.records).generations == 1
    record = second.request(request.id)
    assert record.state == "done" and second.read_video(record.video) == content(1000, 1)


@pytest.mark.parametrize("part", ["chunk", "video"])
def test_what_is_damaged_is_named_and_left_out(source, tmp_path, part):
    second = Store(open_records(f"embedded:{tmp_path / 'second'}"), UNCACHED)
    requests = [publish(source, seed) for seed in (1, 2)]
    digest = source.request(requests[0].id).video
    if part == "chunk":
        source.records.write(Write("chunk", f"{digest}/000000", (SetPayload(b"x"),)))
    else:
        with source.records._transaction() as connection:
            connection.execute("UPDATE records SET bins = '{' WHERE kind = 'video' AND key = ?", (digest,))
    done = copy(source.records, second.records)
    assert done.damaged == (f"video {digest}",) and (done.videos, done.generations) == (1, 1)
    assert answer(second, requests[0]) is None and answer(second, requests[1]) == content(1000, 2)


def test_what_expired_is_not_copied(clock):
    limits = StoreLimits(keep_videos=100.0, local_cache_bytes=0)
    first, second = (Store(MemoryRecordStore(clock), limits) for _ in range(2))
    publish(first, 1)
    clock.pass_(101)
    assert copy(first.records, second.records).videos == 0


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_killed_at_any_write_it_leaves_nothing_wrong_and_is_started_again(source, tmp_path, monkeypatch, after):
    monkeypatch.setattr("videogen.store.videos.CHUNK_BYTES", 400)
    requests = [publish(source, seed) for seed in (1, 2)]
    died, die_at = True, 0
    while died:
        die_at += 1
        folder = tmp_path / f"{die_at}"
        dying = DyingRecords(folder, die_at, after)
        try:
            copy(source.records, dying)
            died = False
        except Killed:
            pass
        dying.close()
        with Store.open(f"embedded:{folder}", UNCACHED) as second:
            for digest in source.records.keys("video"):
                with contextlib.suppress(StoreError):  # it is not there yet, and said to be so
                    assert hashlib.sha256(second.read_video(digest)).hexdigest() == digest
            copy(source.records, second.records)
            assert [answer(second, request) for request in requests] == [content(1000, 1), content(1000, 2)]
    assert die_at > 8


def test_a_source_that_starts_over_is_looked_at_from_the_start(clock):
    first, second = Store(MemoryRecordStore(clock)), Store(MemoryRecordStore(clock))
    publish(first, 1)
    copy(first.records, second.records)
    clock.pass_(-10_000)
    again = Store(MemoryRecordStore(clock))
    publish(again, 2)
    clock.pass_(1)
    assert copy(again.records, second.records).videos == 1


def test_the_second_store_tells_the_lag(clock):
    first, second = Store(MemoryRecordStore(clock)), Store(MemoryRecordStore(clock))
    Replicator(first.records, second.records, "redis://one:6379 ab").run()
    clock.pass_(12)
    (replica,) = second.stats().replicas
    assert (replica.source, replica.lag_s) == ("redis://one:6379 ab", 12.0)


def test_one_pass_on_the_command_line(source, tmp_path):
    publish(source, 1)
    urls = [f"embedded:{tmp_path / name}" for name in ("source", "second")]
    command = ["store", "replicate", "--from", urls[0], "--to", urls[1], "--once"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0
    assert "1 videos (1,000 bytes) and 1 generations copied; 2 looked at; lag 0." in shown.output
    assert "copy of" in CliRunner().invoke(app, ["store", "stats", urls[1]]).output
    (digest,) = source.records.keys("video")
    source.records.write(Write("chunk", f"{digest}/000000", (SetPayload(b"x"),)))
    second = Store.open(f"embedded:{tmp_path / 'third'}")
    second.close()
    shown = CliRunner().invoke(app, [*command[:-2], f"embedded:{tmp_path / 'third'}", "--once"])
    assert shown.exit_code == 1 and f"damaged: video {digest}" in shown.output
    assert CliRunner().invoke(app, [*command[:-2], urls[0], "--once"]).exit_code == 2


def copies_told(folder: Path) -> int:
    return len(re.findall(r"1 videos \(1,000 bytes\)", (folder / "log").read_text()))


def test_it_follows_a_server_through_an_outage(tmp_path):
    durable = ("--appendonly", "yes", "--appendfsync", "always")
    target = f"embedded:{tmp_path / 'second'}"
    with Store.open(target, UNCACHED) as second, redis_server(tmp_path, *durable) as (url, server):
        code = "from videogen.cli import app; app()"
        command = [sys.executable, "-c", code, "store", "replicate", "--from", url, "--to", target]
        with (tmp_path / "log").open("w") as log:
            follower = subprocess.Popen([*command, "--every", "0.2"], stdout=log, stderr=log)
        try:
            with Store.open(url) as first:
                one = publish(first, 1)
            _until(lambda: answer(second, one) == content(1000, 1) and copies_told(tmp_path) == 1, tmp_path)
            server.kill()
            server.wait()
            _until(lambda: "a store is away" in (tmp_path / "log").read_text(), tmp_path)
            with redis_server(tmp_path, *durable, port=int(url.rpartition(":")[2])):
                with Store.open(url) as first:
                    two = publish(first, 2)
                _until(lambda: answer(second, two) == content(1000, 2) and copies_told(tmp_path) == 2, tmp_path)
                follower.send_signal(signal.SIGINT)
                follower.wait(20)
        finally:
            follower.kill()
    assert "Traceback" not in (tmp_path / "log").read_text()


def _until(holds, folder: Path) -> None:
    deadline = time.monotonic() + 40
    while not holds():
        assert time.monotonic() < deadline, (folder / "log").read_text()
        time.sleep(0.1)


def test_a_store_that_drains_goes_on_drained_elsewhere(source, tmp_path):
    """Everything that was answered before the first store was lost is answered by the second one."""
    ids = [source.submit(accepted(seed)) for seed in range(12)]
    drain_all(source)
    second = Store(open_records(f"embedded:{tmp_path / 'second'}"), UNCACHED)
    copy(source.records, second.records)
    assert all(answer(second, record.accepted) is not None for record in ids)


class Sweeping(MemoryRecordStore):
    """Chunks that were there are gone when they are written over: they expired in between."""

    def write_many(self, writes):
        refused = [write.kind == "chunk" and write.create == "never" for write in writes]
        return [
            None if no else super(Sweeping, self).write_many([one])[0] for no, one in zip(refused, writes, strict=True)
        ]


def test_a_video_whose_chunk_went_meanwhile_is_left_for_the_next_pass(source):
    request = publish(source, 1)
    digest = source.request(request.id).video
    target = Sweeping()
    target.write(Write("chunk", f"{digest}/000000", (SetPayload(b"of before"),)))
    done = copy(source.records, target)
    assert (done.videos, done.generations, done.left) == (0, 0, 1)
    assert target.read("video", digest) is None
