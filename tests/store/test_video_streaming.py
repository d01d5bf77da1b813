"""Videos read in pieces, damaged in every way that a store knows, and after their time."""

import hashlib
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.builders import accepted, drain_all, memory_store, put_video
from videogen.errors import InvalidRequest, RecordDamaged, RecordExpired, RecordNotFound
from videogen.requests import new_id
from videogen.store import videos as module
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import NEVER, MapPut, Record, RecordStore, Set, SetPayload, Write
from videogen.store.records import StoreLimits
from videogen.store.videos import CHUNK_BYTES, CHUNKS_PER_CALL, GRACE_S, Videos

KEEP_S = 1000.0
SMALL = 100
"""Bytes of a chunk where a test wants many of them."""


def content(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two chunks are alike."""
    return hashlib.shake_128(f"{seed}".encode()).digest(size)


def drop(records: RecordStore, kind: str, key: str) -> None:
    records.write(Write(kind, key, (), create="never", ttl=0.001))
    deadline = time.monotonic() + 5
    while records.read(kind, key) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def memory(clock) -> MemoryRecordStore:
    return MemoryRecordStore(clock)


@pytest.fixture
def videos(memory) -> Videos:
    return Videos(memory, KEEP_S)


@pytest.fixture
def small_chunks(monkeypatch) -> None:
    monkeypatch.setattr(module, "CHUNK_BYTES", SMALL)


@pytest.fixture
def many(records, small_chunks) -> tuple[Videos, str, bytes]:
    """A video of 21 chunks on each backend in turn."""
    videos, mp4 = Videos(records, KEEP_S), content(20 * SMALL + 7)
    return videos, put_video(videos, "g", mp4), mp4


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, CHUNKS_PER_CALL * CHUNK_BYTES + 1])
def test_a_stream_gives_every_byte_in_pieces_of_a_chunk(records, size):
    videos, mp4 = Videos(records, KEEP_S), content(size)
    pieces = list(videos.stream(put_video(videos, "g", mp4)))
    assert b"".join(pieces) == mp4
    assert [len(piece) for piece in pieces[:-1]] == [CHUNK_BYTES] * (len(pieces) - 1) and all(pieces)


@settings(max_examples=300)
@given(size=st.integers(0, 2500), cut=st.tuples(st.integers(0, 2500), st.integers(0, 2500)))
def test_a_range_is_a_slice(size, cut):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_BYTES", SMALL)
        videos, mp4 = Videos(MemoryRecordStore(), KEEP_S), content(size)
        start, stop = sorted(min(edge, size) for edge in cut)
        digest = put_video(videos, "g", mp4)
        assert b"".join(videos.stream(digest, start, stop)) == mp4[start:stop]
        assert b"".join(videos.stream(digest, start)) == mp4[start:]


def test_a_range_reads_its_own_chunks_and_no_others(many, monkeypatch):
    videos, digest, mp4 = many
    asked: list[str] = []
    read_many = videos.records.read_many

    def watched(kind, keys, aged=False):
        asked.extend(key for key in keys if kind == "chunk")
        return read_many(kind, keys, aged)

    monkeypatch.setattr(videos.records, "read_many", watched)
    assert b"".join(videos.stream(digest, 350, 900)) == mp4[350:900]
    assert asked == [f"{digest}/{index:06d}" for index in range(3, 9)]


@pytest.mark.parametrize(("start", "stop"), [(-1, 5), (5, 4), (0, 11), (11, None)])
def test_a_range_outside_the_video_is_refused_by_the_call(videos, start, stop):
    digest = put_video(videos, "g", bytes(10))
    with pytest.raises(InvalidRequest, match=r"range: got .*; allowed: 0 <= start <= stop <= 10"):
        videos.stream(digest, start, stop)


def test_a_stream_holds_some_chunks_however_long_the_video_is(records):
    videos = Videos(records, KEEP_S)
    mp4 = content(64 * CHUNK_BYTES)
    digest = put_video(videos, "g", mp4)
    # In the memory store the chunks are there anyway; what is measured is what a reader adds.
    tracemalloc.start()
    try:
        before, found = tracemalloc.get_traced_memory()[0], hashlib.sha256()
        for piece in videos.stream(digest):
            found.update(piece)
        peak = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert found.hexdigest() == digest
    assert peak < 3 * CHUNKS_PER_CALL * CHUNK_BYTES < len(mp4) / 2


def torn(records: RecordStore, digest: str, mp4: bytes) -> None:
    records.write(Write("chunk", f"{digest}/000012", (SetPayload(mp4[1200:1250]),)))


def flipped(records: RecordStore, digest: str, mp4: bytes) -> None:
    part = bytearray(mp4[1200:1300])
    part[50] ^= 1
    records.write(Write("chunk", f"{digest}/000012", (SetPayload(bytes(part)),)))


def of_another_place(records: RecordStore, digest: str, mp4: bytes) -> None:
    records.write(Write("chunk", f"{digest}/000012", (SetPayload(mp4[1300:1400]),)))


def without_payload(records: RecordStore, digest: str, mp4: bytes) -> None:
    drop(records, "chunk", f"{digest}/000012")
    records.write(Write("chunk", f"{digest}/000012", (Set("x", 1),), ttl=NEVER))


def missing(records: RecordStore, digest: str, mp4: bytes) -> None:
    drop(records, "chunk", f"{digest}/000012")


@pytest.mark.parametrize("damage", [torn, flipped, of_another_place, without_payload, missing])
@pytest.mark.parametrize("before", [True, False], ids=["before", "meanwhile"])
def test_no_byte_of_a_damaged_chunk_is_given_and_the_video_is_marked(many, damage, before):
    videos, digest, mp4 = many
    got = []
    if before:
        damage(videos.records, digest, mp4)
    stream = videos.stream(digest)
    got.append(next(stream))
    if not before:
        damage(videos.records, digest, mp4)
    with pytest.raises(RecordDamaged, match=f"{digest}: its chunk 12 of 21"):
        got.extend(stream)
    assert b"".join(got) == mp4[:1200]
    assert videos.are_whole([digest]) == set()
    for call in (videos.get, videos.read, videos.stream):
        with pytest.raises(RecordNotFound):
            call(digest)
    put_video(videos, "h", mp4)
    assert b"".join(videos.stream(digest)) == mp4


def test_a_range_beside_the_damage_is_served(many):
    videos, digest, mp4 = many
    missing(videos.records, digest, mp4)
    assert b"".join(videos.stream(digest, 0, 1200)) == mp4[:1200]
    assert b"".join(videos.stream(digest, 1300)) == mp4[1300:]
    with pytest.raises(RecordDamaged):
        list(videos.stream(digest, 1299, 1301))


@pytest.mark.parametrize("value", ["x", ["0" * 64] * 20, ["0" * 64] * 21, []])
def test_a_damaged_list_of_chunk_digests_gives_nothing_and_marks_the_video(many, value):
    videos, digest, _ = many
    videos.records.write(Write("video", digest, (Set("chunk_digests", value),)))
    with pytest.raises(RecordDamaged, match=digest):
        next(videos.stream(digest))
    assert videos.are_whole([digest]) == set()


def test_a_video_that_was_put_again_meanwhile_is_not_marked(clock, videos, memory, monkeypatch, small_chunks):
    mp4 = content(500)
    digest = put_video(videos, "g", mp4)
    read_many, asked = memory.read_many, []

    def damaged_then_mended(kind, keys, aged=False):
        if kind != "chunk":
            return read_many(kind, keys, aged)
        asked.extend(keys)
        if asked.count(keys[-1]) > 1:  # what was read ahead of the record is not held against it
            monkeypatch.setattr(memory, "read_many", read_many)
            clock.pass_(1)
            put_video(videos, "h", mp4)
        return [None] * len(keys)

    monkeypatch.setattr(memory, "read_many", damaged_then_mended)
    with pytest.raises(RecordDamaged):
        videos.read(digest)
    assert videos.read(digest) == mp4


def test_a_chunk_read_ahead_that_is_older_than_the_record_is_read_again(videos, memory, monkeypatch):
    mp4 = content(500)
    digest = put_video(videos, "g", mp4)
    read_each = memory.read_each
    monkeypatch.setattr(memory, "read_each", lambda names: [read_each(names)[0], *[None] * (len(names) - 1)])
    assert videos.read(digest) == mp4 and videos.are_whole([digest]) == {digest}


def as_before(records: RecordStore, digest: str) -> None:
    """The record as it was written before it told of its chunks and its expiry."""
    gone = (Set("chunk_bytes", None), Set("chunk_digests", None), Set("expires_at", None))
    records.write(Write("video", digest, gone))


def test_an_old_record_is_read_and_streamed(records, monkeypatch):
    size = module.FIRST_CHUNK_BYTES
    monkeypatch.setattr(module, "CHUNK_BYTES", size)
    videos, mp4 = Videos(records, KEEP_S), content(2 * size + 7)
    digest = put_video(videos, "g", mp4, {"engine": "cpu"})
    as_before(records, digest)
    assert videos.are_whole([digest]) == {digest}
    monkeypatch.undo()
    assert videos.read(digest) == mp4
    assert b"".join(videos.stream(digest, size - 1, 2 * size + 1)) == mp4[size - 1 :][: 2 + size]
    found = videos.get(digest)
    assert found.expires_at == found.created_at + KEEP_S and found.provenance == {"engine": "cpu"}


def test_an_old_record_is_verified_whole_before_its_first_byte(many):
    videos, digest, mp4 = many
    as_before(videos.records, digest)
    missing(videos.records, digest, mp4)
    with pytest.raises(RecordDamaged):
        next(videos.stream(digest, 0, 10))
    assert videos.are_whole([digest]) == set()


def test_what_expired_is_told_from_what_never_was(clock, videos):
    digest = put_video(videos, "g", b"mp4")
    calls = (videos.get, videos.read, videos.stream)
    assert videos.get(digest).expires_at == clock() + KEEP_S
    clock.pass_(KEEP_S - 0.001)
    assert videos.read(digest) == b"".join(videos.stream(digest)) == b"mp4" and videos.are_whole([digest]) == {digest}
    clock.pass_(0.001)
    for call in calls:
        with pytest.raises(RecordExpired, match=f"{digest} expired 0 s ago"):
            call(digest)
    assert videos.are_whole([digest]) == set()
    clock.pass_(GRACE_S)
    for call in calls:
        for name in (digest, "f" * 64):
            with pytest.raises(RecordNotFound) as raised:
                call(name)
            assert not isinstance(raised.value, RecordExpired)


def test_a_stream_that_began_in_time_goes_on_to_its_end(clock, videos, small_chunks):
    mp4 = content(3000)
    stream = videos.stream(put_video(videos, "g", mp4))
    first = next(stream)
    clock.pass_(KEEP_S + GRACE_S - 1)
    assert first + b"".join(stream) == mp4


def test_a_video_that_is_made_again_is_served_again(clock, videos):
    digest = put_video(videos, "g", b"mp4")
    clock.pass_(KEEP_S + 1)
    assert put_video(videos, "h", b"mp4") == digest
    assert videos.read(digest) == b"mp4" and videos.get(digest).expires_at == clock() + KEEP_S


@pytest.mark.parametrize("old", [False, True], ids=["new record", "old record"])
def test_a_record_that_a_restart_brought_back_after_its_expiry_is_never_served(records, old):
    videos = Videos(records, keep=0.3)
    digest = put_video(videos, "g", b"mp4", {"engine": "cpu"})
    if old:
        as_before(records, digest)
    names = (("video", digest), ("chunk", f"{digest}/000000"))
    saved: dict[tuple[str, str], Record | None] = {name: records.read(*name) for name in names}
    entries = records.map_range("video", digest)
    time.sleep(0.4)
    for name in names:
        drop(records, *name)
    with pytest.raises(RecordNotFound):
        videos.read(digest)
    for name, record in saved.items():
        bins = [Set(*item) for item in record.bins.items()]
        rest = [SetPayload(record.payload)] if record.payload else [MapPut(*entry) for entry in entries]
        records.write(Write(*name, (*bins, *rest), ttl=NEVER))
    assert records.read(*names[0]).bins == saved[names[0]].bins
    for call in (videos.get, videos.read, videos.stream):
        with pytest.raises(RecordExpired):
            call(digest)
    assert videos.are_whole([digest]) == set()


def test_a_request_for_a_video_that_was_brought_back_is_made_again(clock):
    store = memory_store(clock, StoreLimits(keep_videos=KEEP_S))
    asked = accepted()
    store.submit(asked)
    drain_all(store)
    done = store.request(asked.id)
    record, generation = (store.records.read(kind, key) for kind, key in
                          (("video", done.video), ("generation", done.generation)))  # fmt: skip
    clock.pass_(KEEP_S + 2 * GRACE_S)
    for name, was in ((("video", done.video), record), (("generation", done.generation), generation)):
        assert store.records.read(*name) is None
        store.records.write(Write(*name, tuple(Set(*item) for item in was.bins.items()), ttl=NEVER))
    again = asked.model_copy(update={"id": new_id()})
    assert store.submit(again).state == "queued"
    drain_all(store)
    assert store.request(again.id).state == "done"
    assert store.read_video(done.video) == b"".join(store.stream_video(done.video))


@pytest.mark.parametrize("value", ["soon", None])
def test_a_record_whose_time_cannot_be_read_is_not_whole(videos, value):
    digest = put_video(videos, "g", b"mp4")
    videos.records.write(Write("video", digest, (Set("expires_at", value), Set("created_at", value))))
    assert videos.are_whole([digest]) == set()
    with pytest.raises(RecordDamaged):
        videos.read(digest)
