"""Servers whose clock is set an hour forward or back while they run: what happens is what `docs/store.md` says."""

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults import servers
from tests.store.builders import accepted, drain_all
from videogen.errors import LeaseLost, RecordExpired
from videogen.store.records import StoreLimits
from videogen.store.store import Store

pytestmark = pytest.mark.faults
HOUR = 3600.0
LEASE_S = 2.0
LIMITS = StoreLimits(keep_videos=HOUR / 2, local_cache_bytes=0)
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
OPENED = {"redis": partial(servers.redis, fsync="everysec"), "aerospike": servers.aerospike_memory}


@pytest.fixture(params=sorted(OPENED))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def shift(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Sets the wall clock of the server that `store` is on, in seconds from the right time; its others go on."""
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed (apt-get install faketime)")
    told = tmp_path / "clock"
    told.write_text("+0\n")
    monkeypatch.setenv("LD_PRELOAD", f"{LIBRARIES[0]}:libc.so.6")  # its malloc, for Redis's own asks for the time
    monkeypatch.setenv("FAKETIME_TIMESTAMP_FILE", str(told))
    monkeypatch.setenv("FAKETIME_CACHE_DURATION", "1")
    monkeypatch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")

    def set_to(seconds: float) -> None:
        told.write_text(f"{seconds:+.0f}\n")
        time.sleep(2.5)

    return set_to


@pytest.fixture
def store(kind: str, shift: Callable[[float], None], tmp_path: Path) -> Iterator[Store]:
    with OPENED[kind](tmp_path) as running, Store.open(running.url, LIMITS) as store:
        yield store


def test_the_server_follows_the_clock_that_is_set(store, shift):
    before = store.records.now()
    shift(HOUR)
    assert 0 < store.records.now() - before - HOUR < 60


def test_set_forward_a_lease_ends_early_and_its_work_is_published_once(store, shift):
    request = store.submit(accepted())
    (early,) = store.claim([request.id], "early", 600.0)
    assert store.claim([request.id], "next", 600.0) == []
    shift(HOUR)
    (claim,) = store.claim([request.id], "next", 600.0)
    assert claim.attempt == 2
    video = store.publish(claim, b"the one video", {})
    with pytest.raises(LeaseLost):
        store.publish(early, b"a second one", {})
    assert store.request(request.id).video == video.digest


def test_set_forward_a_video_expires_early_and_is_made_again(store, shift):
    request = store.submit(accepted())
    drain_all(store)
    digest = store.request(request.id).video
    shift(HOUR)
    with pytest.raises(RecordExpired):
        store.read_video(digest)
    again = store.submit(accepted())
    assert again.state == "queued"
    drain_all(store)
    assert store.read_video(store.request(again.id).video)


def test_set_back_a_lease_of_before_ends_at_once_on_redis_and_late_on_aerospike(kind, store, shift):
    request = store.submit(accepted())
    (old,) = store.claim([request.id], "old", LEASE_S if kind == "aerospike" else 600.0)
    shift(-HOUR)
    time.sleep(LEASE_S)
    taken = store.claim([request.id], "next", 600.0)
    assert len(taken) == (1 if kind == "redis" else 0)
    if kind == "aerospike":
        shift(0)
        taken = store.claim([request.id], "next", 600.0)
    assert [claim.attempt for claim in taken] == [2]
    store.publish(taken[0], b"the one video", {})
    with pytest.raises(LeaseLost):
        store.publish(old, b"a second one", {})


@pytest.mark.parametrize("seconds", [HOUR, -HOUR])
def test_what_is_accepted_before_and_after_a_jump_is_answered(store, shift, seconds):
    before = store.submit(accepted(1))
    shift(seconds)
    after = store.submit(accepted(2))
    drain_all(store)
    assert [store.request(one.id).state for one in (before, after)] == ["done", "done"]


def test_set_back_a_lease_of_after_it_is_a_lease_like_any_other(store, shift):
    shift(-HOUR)
    request = store.submit(accepted())
    assert store.claim([request.id], "dead", LEASE_S)
    assert store.claim([request.id], "next", LEASE_S) == []
    time.sleep(LEASE_S + 0.5)
    assert [claim.attempt for claim in store.claim([request.id], "next", 60.0)] == [2]
