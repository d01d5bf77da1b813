"""Reads of a store that go through the memory of the process: what it spares, and what it never serves."""

import signal
import time

import pytest

from tests.fixtures.servers import redis_server
from tests.store.builders import accepted, put_video
from tests.store.test_video_streaming import content, drop
from videogen.errors import InvalidRequest, RecordDamaged, RecordExpired, RecordNotFound, StoreUnavailable
from videogen.store import local_cache
from videogen.store.local_cache import CacheStats
from videogen.store.primitives import NEVER, MapPut, RecordStore, Set, SetPayload, Write
from videogen.store.records import StoreLimits
from videogen.store.store import Store
from videogen.store.videos import HELD_BYTES


def published(store: Store, mp4: bytes, seed: int = 0, **provenance: object) -> str:
    request = store.submit(accepted(seed))
    (claim,) = store.claim([request.id], "worker", 60.0)
    return store.publish(claim, mp4, provenance).digest


def spoil(records: RecordStore, digest: str) -> None:
    """From here on the store itself has nothing that could be served."""
    records.write(Write("chunk", f"{digest}/000000", (SetPayload(b"spoilt"),)))


def tier(store: Store) -> CacheStats:
    found = store.cache_stats()
    assert found is not None
    return found


def test_what_was_read_is_read_again_without_the_store(records):
    store, mp4 = Store(records), content(5000)
    digest = published(store, mp4, seconds={"denoise": 2.0, "decode": 0.5})
    assert store.read_video(digest) == mp4
    spoil(records, digest)
    assert store.read_video(digest) == b"".join(store.stream_video(digest)) == mp4
    assert b"".join(store.stream_video(digest, 10, 1000)) == mp4[10:1000]
    with pytest.raises(InvalidRequest, match="range"):
        store.stream_video(digest, 10, 5001)
    found = tier(store)
    assert (found.hits, found.misses, found.bytes, found.gpu_seconds_saved) == (4, 1, 5000, 10.0)


def test_a_stream_of_what_fits_fills_it_and_a_longer_one_does_not(records):
    store = Store(records)
    short, long = content(HELD_BYTES), content(HELD_BYTES + 1)
    for seed, (mp4, held) in enumerate([(short, 1), (long, 1)]):
        digest = published(store, mp4, seed)
        assert b"".join(store.stream_video(digest)) == mp4
        assert tier(store).videos == held
        assert b"".join(store.stream_video(digest, 7, 600_000)) == mp4[7:600_000]
    assert (tier(store).hits, tier(store).misses, tier(store).loads) == (1, 3, 3)
    with pytest.raises(RecordNotFound):
        store.read_video("f" * 64)
    assert (tier(store).misses, tier(store).loads) == (4, 3)


def test_what_is_damaged_is_never_taken_in(records):
    store = Store(records)
    digest = published(store, b"mp4")
    spoil(records, digest)
    stream = store.stream_video(digest)
    with pytest.raises(RecordDamaged, match=digest):
        next(stream)
    with pytest.raises(RecordNotFound):
        store.read_video(digest)
    assert tier(store).videos == 0


def test_what_another_process_found_damaged_is_served_no_longer_than_the_bound(records, monkeypatch):
    store = Store(records)
    digest = published(store, b"mp4")
    store.read_video(digest)
    other = Store(records, StoreLimits(local_cache_bytes=0))
    spoil(records, digest)
    with pytest.raises(RecordDamaged):
        other.read_video(digest)
    assert store.read_video(digest) == b"mp4"
    monkeypatch.setattr(local_cache, "CONFIRM_EVERY_S", 0.0)
    for call in (store.read_video, store.stream_video):
        with pytest.raises(RecordNotFound):
            call(digest)
    assert tier(store).videos == 0


def test_a_record_that_was_removed_or_brought_back_expired_is_served_no_longer_than_the_bound(records, monkeypatch):
    monkeypatch.setattr(local_cache, "CONFIRM_EVERY_S", 0.0)
    store = Store(records)
    digest = published(store, b"mp4")
    saved, entries = records.read("video", digest), records.map_range("video", digest)
    assert store.read_video(digest) == store.read_video(digest) == b"mp4"
    drop(records, "video", digest)
    with pytest.raises(RecordNotFound):
        store.read_video(digest)
    bins = [Set(name, value) for name, value in saved.bins.items() if name != "expires_at"]
    late = Set("expires_at", records.now() - 1)
    records.write(Write("video", digest, (*bins, late, *(MapPut(*entry) for entry in entries)), ttl=NEVER))
    with pytest.raises(RecordExpired):
        store.read_video(digest)
    assert tier(store).videos == 0


def test_nothing_is_served_after_its_expiry(records):
    store = Store(records, StoreLimits(keep_videos=1.5))
    digest = published(store, b"mp4")
    expires_at = store.video(digest).expires_at
    while True:
        asked = records.now()
        try:
            store.read_video(digest)
        except RecordExpired:
            break
        assert asked < expires_at
        time.sleep(0.01)
    assert records.now() >= expires_at and tier(store).hits > 0


def test_a_video_that_is_published_again_lives_on(records, monkeypatch):
    monkeypatch.setattr(local_cache, "CONFIRM_EVERY_S", 0.0)
    store = Store(records, StoreLimits(keep_videos=1.5))
    digest = published(store, b"mp4")
    first = store.video(digest).expires_at
    store.read_video(digest)
    put_video(Store(records, StoreLimits(keep_videos=100.0))._videos, "again", b"mp4")
    spoil(records, digest)
    store.read_video(digest)
    while records.now() < first:
        time.sleep(0.05)
    assert store.read_video(digest) == b"mp4" and tier(store).misses == 1


def test_it_holds_no_more_than_its_bytes_and_nothing_if_it_is_off(records):
    store = Store(records, StoreLimits(local_cache_bytes=1000))
    digests = [published(store, content(400, seed), seed) for seed in range(4)]
    for digest in digests * 2:
        assert len(store.read_video(digest)) == 400
        assert tier(store).bytes <= 1000
    off = Store(records, StoreLimits(local_cache_bytes=0))
    assert len(off.read_video(digests[0])) == 400 and off.cache_stats() is None


def test_it_serves_through_an_outage_no_longer_than_the_bound(tmp_path, monkeypatch):
    with redis_server(tmp_path) as (url, server), Store.open(url) as store:
        digest = published(store, b"mp4")
        store.read_video(digest)
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert store.read_video(digest) == b"mp4"
        monkeypatch.setattr(local_cache, "CONFIRM_EVERY_S", 0.0)
        with pytest.raises(StoreUnavailable):
            store.read_video(digest)
