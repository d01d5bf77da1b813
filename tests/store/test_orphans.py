"""Chunks that belong to no video go, in two passes, and no other ones do."""

import hashlib

import pytest

from tests.store.builders import put_video
from tests.store.test_video_streaming import content
from videogen.errors import RecordDamaged
from videogen.store import orphans, videos
from videogen.store.orphans import ORPHAN_S, Swept, sweep
from videogen.store.primitives import RecordStore, Set, SetPayload, Write
from videogen.store.videos import Videos

KEEP_S = 10_000.0


@pytest.fixture
def small(monkeypatch) -> None:
    monkeypatch.setattr(videos, "CHUNK_BYTES", 100)


def chunk_count(records: RecordStore) -> int:
    """Those that hold anything: what was removed may be named for a moment yet."""
    found = records.read_many("chunk", list(records.keys("chunk")))
    return sum(bool(record and record.payload) for record in found)


def abandoned(store: Videos, seed: int, size: int = 450) -> str:
    """A publication that ended between its chunks and its record."""
    mp4 = content(size, seed)
    digest = hashlib.sha256(mp4).hexdigest()
    parts = [mp4[first : first + 100] for first in range(0, size, 100)]
    store.records.write_many([store._chunk(digest, *part) for part in enumerate(parts)])
    return digest


def test_an_abandoned_publication_is_marked_then_removed(records, small, monkeypatch):
    monkeypatch.setattr(orphans, "ORPHAN_S", 0.0)
    monkeypatch.setattr(orphans, "DUE", orphans.every(orphans.Is("orphan_s", 0.0), orphans.Unwritten("orphan_s")))
    store = Videos(records, KEEP_S)
    whole = put_video(store, "g", content(450))
    lost = abandoned(store, 1)
    first = sweep(records)
    assert first == Swept(10, {(lost, "there is no such video"): 5}, marked=5, removed=0)
    assert chunk_count(records) == 10
    assert (sweep(records).removed, chunk_count(records)) == (5, 5)
    assert store.read(whole) == content(450)


def test_nothing_is_removed_that_was_written_within_the_hour(clock, plain, small):
    store = Videos(plain, KEEP_S)
    lost = abandoned(store, 1)
    sweep(plain)
    clock.pass_(ORPHAN_S - 1)
    assert (sweep(plain).removed, sweep(plain).marked, chunk_count(plain)) == (0, 0, 5)
    put_video(store, "h", content(450, 1))  # it is made again after all
    plain.write(Write("video", lost, (Set("state", "damaged"),)))
    clock.pass_(ORPHAN_S - 1)
    assert (sweep(plain).removed, chunk_count(plain)) == (0, 5)
    clock.pass_(1)
    assert (sweep(plain).removed, chunk_count(plain)) == (5, 0)


def test_a_publication_that_comes_between_the_passes_keeps_its_chunks(clock, plain, small):
    store = Videos(plain, KEEP_S)
    lost = abandoned(store, 1)
    sweep(plain)
    clock.pass_(ORPHAN_S + 1)
    put_video(store, "h", content(450, 1))
    assert sweep(plain).orphans == {} and store.read(lost) == content(450, 1)


def test_what_was_removed_is_written_again_whole(clock, plain, small):
    store = Videos(plain, KEEP_S)
    lost = abandoned(store, 1)
    sweep(plain)
    clock.pass_(ORPHAN_S + 1)
    assert sweep(plain).removed == 5
    put_video(store, "h", content(450, 1))  # before they are gone
    clock.pass_(2)
    assert store.read(lost) == content(450, 1)


def test_chunks_of_a_damaged_video_and_those_beyond_its_end_are_orphans(records, small):
    store = Videos(records, KEEP_S)
    damaged, longer = put_video(store, "g", content(250)), put_video(store, "g", content(250, 1))
    records.write(Write("chunk", f"{damaged}/000001", (SetPayload(b"x"),)))
    with pytest.raises(RecordDamaged):
        store.read(damaged)
    records.write(Write("chunk", f"{longer}/000003", (SetPayload(b"x"),), ttl=KEEP_S))
    found = sweep(records, dry_run=True)
    assert found.orphans == {(damaged, "the video is damaged"): 3, (longer, "beyond the video's end"): 1}
    assert (found.looked, found.marked, found.removed) == (7, 0, 0)


def test_an_expired_video_keeps_its_chunks_while_somebody_may_read_them(clock, plain, small):
    store = Videos(plain, KEEP_S)
    stream = store.stream(put_video(store, "g", content(3000)))
    next(stream)
    clock.pass_(KEEP_S + 1)
    assert sweep(plain).orphans == {}


def test_a_pass_ends_when_it_has_found_enough(plain, small, monkeypatch):
    monkeypatch.setattr(orphans, "LOOKED_AT_ONCE", 4)
    store = Videos(plain, KEEP_S)
    for seed in range(6):
        abandoned(store, seed)
    found = sweep(plain, most=10)
    assert found.is_cut and 10 <= sum(found.orphans.values()) <= 13 and found.looked < 30
