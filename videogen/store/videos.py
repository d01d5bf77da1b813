"""Published videos by the digest of their content: chunks first, then the record that makes them visible.

A video is served until its `expires_at`, which its record holds: that a record is there proves nothing, for a restart
may bring one back. For `GRACE_S` more it stays as a trace, so that what expired is told from what never was.
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from videogen.errors import InvalidRequest, RecordDamaged, RecordExpired, RecordNotFound
from videogen.store.local_cache import CarriedClock, LoadedVideo, LocalVideoCache
from videogen.store.primitives import MAX_PAYLOAD, Is, MapPut, Record, RecordStore, Set, SetPayload, Write, undamaged
from videogen.store.records import Json, VideoRecord

CHUNK_BYTES = MAX_PAYLOAD
FIRST_CHUNK_BYTES = 512 * 1024
"""Of videos whose records do not tell it."""
CHUNKS_PER_CALL = 8
CHUNKS_AHEAD = 1
"""Asked for with a video's record, before it is known how many it has."""
LOOK_EVERY_S = 1.0
"""For so long the store's clock is carried on by this machine's, to tell what has expired."""
HELD_BYTES = CHUNKS_PER_CALL * CHUNK_BYTES
"""Of one video in memory while it is streamed; larger ones are not put into the local cache by a stream."""
GRACE_S = 3600.0
"""From a video's expiry to the end of its records. Who began to read it in time may go on for so long."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A video on its way into the store: its bytes are there, but for `last_chunks`."""

    digest: str
    size: int
    chunk_digests: list[str]
    last_chunks: list[Write]


class Videos:
    """`keep` in seconds, from publication to expiry. `cache` is asked before the store for whole MP4s."""

    def __init__(self, records: RecordStore, keep: float, cache: LocalVideoCache | None = None) -> None:
        self.records, self.keep, self.cache = records, keep, cache
        self._now = CarriedClock(records.now, LOOK_EVERY_S) if records.asks_a_server else records.now

    def bring(self, mp4: bytes) -> Brought:
        """Stores all of a video's bytes but the last."""
        digest, part, chunk_digests = _sha256(mp4), list[Write](), list[str]()
        for index, first in enumerate(range(0, len(mp4), CHUNK_BYTES)):
            if len(part) == CHUNKS_PER_CALL:
                self.records.write_many(part)
                part = []
            payload = mp4[first : first + CHUNK_BYTES]
            part.append(self._chunk(digest, index, payload))
            chunk_digests.append(digest if len(payload) == len(mp4) else _sha256(payload))
        return Brought(digest, len(mp4), chunk_digests, part)

    def show(self, brought: Brought, generation: str, provenance: Mapping[str, Json]) -> VideoRecord:
        """Stores the rest of a video's bytes, and then its record, without which it is not to be seen."""
        self.records.write_many(brought.last_chunks)
        facts, now = json.dumps(dict(provenance), sort_keys=True), self._now()
        self.records.write(
            Write(
                "video",
                brought.digest,
                (
                    Set("state", "whole"),
                    Set("size", brought.size),
                    Set("chunks", len(brought.chunk_digests)),
                    Set("chunk_bytes", CHUNK_BYTES),
                    Set("chunk_digests", brought.chunk_digests),
                    Set("created_at", now),
                    Set("expires_at", now + self.keep),
                    # Two generations may give the same bytes; each keeps its own facts.
                    MapPut(generation, facts),
                ),
                ttl=self.keep + GRACE_S,
            )
        )
        return VideoRecord(brought.digest, brought.size, now, now + self.keep, dict(provenance))

    def get(self, digest: str, generation: str | None = None) -> VideoRecord:
        """Raises RecordNotFound, RecordExpired for a while after its expiry.

        Without `generation`, provenance is that of the first that made these bytes.
        """
        return self._shown(digest, self._whole(digest), self.records.map_range("video", digest), generation)

    def get_many(self, wanted: Sequence[tuple[str, str | None]]) -> list[VideoRecord | None]:
        """As `get`, all at once, each with its generation; None for each that is not there or is damaged."""
        digests = list(dict.fromkeys(digest for digest, _ in wanted))
        records = dict(zip(digests, self.records.read_many("video", digests), strict=True))
        entries = dict(zip(digests, self.records.map_heads("video", digests), strict=True))

        def get(digest: str, generation: str | None) -> VideoRecord | None:
            try:
                return self._shown(digest, self._current(digest, records[digest]), entries[digest], generation)
            except (RecordNotFound, RecordDamaged):
                return None

        return [get(*one) for one in wanted]

    def _shown(
        self, digest: str, record: Record, entries: Sequence[tuple[str, str]], generation: str | None
    ) -> VideoRecord:
        try:
            provenance = _provenance(entries, generation)
        except ValueError as error:
            raise RecordDamaged(f"video {digest}: its provenance is damaged: {error}") from error
        return VideoRecord(
            digest, record.count("size"), record.number("created_at"), self._expires_at(record), provenance
        )

    def read(self, digest: str) -> bytes:
        """The MP4. Raises as `get`, and RecordDamaged if its bytes are not those of its digest.

        A damaged video is marked, so that the next request for it is generated again.
        """
        if self.cache is None:
            return self._read(digest)[1]
        return self.cache.get(digest, lambda: self._load(digest, *self._read(digest)), lambda: self._until(digest))

    def held(self, digest: str) -> bytes | None:
        """The MP4 if it is in the cache, and known to be given still."""
        return None if self.cache is None else self.cache.glance(digest)

    def keep_here(self, mp4: bytes, video: VideoRecord) -> None:
        """Puts a video into the cache that was just stored, if it is none of the large ones."""
        if self.cache is not None and len(mp4) <= HELD_BYTES:
            self.cache.put(video.digest, LoadedVideo(mp4, video.expires_at, _spent(video.provenance)))

    def _read(self, digest: str) -> tuple[Record, bytes]:
        """A video's record and its verified MP4. A chunk that was read ahead may be from before the record."""
        names = [("video", digest), *(("chunk", key) for key in chunk_keys(digest, CHUNKS_AHEAD))]
        found, *ahead = self.records.read_each(names)
        record = self._current(digest, found)
        count = record.count("chunks")
        rest = (payload for _, payload in self._payloads(digest, range(CHUNKS_AHEAD, count)))
        mp4 = b"".join([*map(_payload, ahead[:count]), *rest])
        return record, mp4 if _sha256(mp4) == digest else self._verified(digest, record)

    def _verified(self, digest: str, record: Record) -> bytes:
        mp4 = b"".join(payload for _, payload in self._payloads(digest, range(record.count("chunks"))))
        if _sha256(mp4) != digest:
            raise self._damaged(digest, record, f"its {len(mp4):,} bytes are not those that were published")
        return mp4

    def _load(self, digest: str, record: Record, mp4: bytes) -> LoadedVideo:
        return LoadedVideo(mp4, self._expires_at(record), self._gpu_seconds(digest))

    def _gpu_seconds(self, digest: str) -> float:
        """By the first that made it."""
        try:
            return _spent(_provenance(self.records.map_range("video", digest), None))
        except ValueError:
            return _spent(None)

    def _until(self, digest: str) -> float:
        return self._expires_at(self._whole(digest))

    def stream(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The MP4's bytes from `start` up to `stop`, chunk by chunk, each verified before it is given.

        Holds at most `HELD_BYTES` beside the cache. The call raises as `get`, and InvalidRequest for a range outside
        the video; the iterator raises RecordDamaged, and marks the video as `read` does, before the first wrong byte.
        """
        held = None if self.cache is None else self.cache.find(digest, lambda: self._until(digest))
        if held is not None:
            return _slices(held, *_range(len(held), start, stop))
        record = self._whole(digest)
        size = record.count("size")
        wanted = _range(size, start, stop)
        if self.cache is None:
            return self._pieces(digest, record, *wanted)
        if size > min(HELD_BYTES, self.cache.max_bytes):
            self.cache.passed_by()
            return self._pieces(digest, record, *wanted)
        return self._filling(self.cache, digest, record, *wanted)

    def _filling(self, cache: LocalVideoCache, digest: str, record: Record, start: int, stop: int) -> Iterator[bytes]:
        """The bytes by way of the cache, which takes a video in whole."""
        yield from _slices(
            cache.fill(digest, lambda: self._load(digest, record, self._verified(digest, record))), start, stop
        )

    def are_whole(self, digests: Sequence[str]) -> set[str]:
        """Those that can be served: their record says so. Their bytes are verified when they are read."""
        found = zip(digests, self.records.read_many("video", digests), strict=True)
        whole = {d: r for d, r in found if isinstance(r, Record) and r.bins.get("state") == "whole"}
        now = self._now() if whole else 0.0
        return {digest for digest, record in whole.items() if self._is_current(record, now)}

    def _whole(self, digest: str) -> Record:
        return self._current(digest, self.records.read("video", digest))

    def _current(self, digest: str, found: Record | RecordDamaged | None) -> Record:
        record = undamaged(found)
        if record is None or record.bins.get("state") != "whole":
            raise RecordNotFound(f"there is no video {digest}")
        ago = self._now() - self._expires_at(record)
        if ago >= 0:
            raise RecordExpired(f"video {digest} expired {ago:,.0f} s ago")
        return record

    def _is_current(self, record: Record, now: float) -> bool:
        try:
            return now < self._expires_at(record)
        except RecordDamaged:
            return False  # so it is made again, which mends the record

    def _expires_at(self, record: Record) -> float:
        """Videos from before this was recorded expire as long after their publication as new ones do."""
        if "expires_at" in record.bins:
            return record.number("expires_at")
        return record.number("created_at") + self.keep

    def _pieces(self, digest: str, record: Record, start: int, stop: int) -> Iterator[bytes]:
        size = record.count("chunk_bytes") or FIRST_CHUNK_BYTES
        digests = self._chunk_digests(digest, record, size)
        wanted = range(start // size, -(-stop // size)) if start < stop else range(0)
        for index, payload in self._payloads(digest, wanted):
            if _sha256(payload) != digests[index]:
                raise self._damaged(digest, record, f"its chunk {index} of {len(digests)} is not what was published")
            yield payload[max(start - index * size, 0) : stop - index * size]

    def _chunk_digests(self, digest: str, record: Record, chunk_bytes: int) -> Sequence[str]:
        """What each chunk has to be. A video from before this was recorded is verified as a whole to learn it."""
        if "chunk_digests" not in record.bins:
            return self._digests_of_verified(digest, record)
        try:
            digests = record.texts("chunk_digests")
        except RecordDamaged as error:
            raise self._damaged(digest, record, str(error)) from error
        if len(digests) != -(-record.count("size") // chunk_bytes):
            raise self._damaged(digest, record, f"it has the digests of {len(digests)} chunks")
        return digests

    def _digests_of_verified(self, digest: str, record: Record) -> Sequence[str]:
        whole, digests = hashlib.sha256(), []
        for _, payload in self._payloads(digest, range(record.count("chunks"))):
            whole.update(payload)
            digests.append(_sha256(payload))
        if whole.hexdigest() != digest:
            raise self._damaged(digest, record, "its bytes are not those that were published")
        return digests

    def _payloads(self, digest: str, indices: range) -> Iterator[tuple[int, bytes]]:
        """Chunks as they are, some at a time; empty where there is none."""
        for first in range(0, len(indices), CHUNKS_PER_CALL):
            part = indices[first : first + CHUNKS_PER_CALL]
            keys = [_chunk_key(digest, index) for index in part]
            for index, chunk in zip(part, self.records.read_many("chunk", keys), strict=True):
                yield index, _payload(chunk)

    def _damaged(self, digest: str, record: Record, what: str) -> RecordDamaged:
        """Marks a video, unless it was put again since its record was read; gives the error to raise."""
        when = Is("created_at", record.bins.get("created_at"))
        self.records.write(Write("video", digest, (Set("state", "damaged"),), "never", when))
        return RecordDamaged(f"video {digest}: {what}")

    def _chunk(self, digest: str, index: int, payload: bytes) -> Write:
        return Write("chunk", _chunk_key(digest, index), (SetPayload(payload),), ttl=self.keep + GRACE_S)


def _spent(provenance: object) -> float:
    """The GPU-seconds that making a video took; 1 where that is not told."""
    stages = provenance.get("seconds") if isinstance(provenance, Mapping) else None
    seconds = list(stages.values()) if isinstance(stages, dict) else [1.0]
    return math.fsum(value for value in seconds if isinstance(value, int | float) and 0 <= value < math.inf)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _payload(chunk: Record | RecordDamaged | None) -> bytes:
    return chunk.payload or b"" if isinstance(chunk, Record) else b""


def _chunk_key(digest: str, index: int) -> str:
    return f"{digest}/{index:06d}"


def chunk_keys(digest: str, count: int) -> Iterator[str]:
    """Keys of the first `count` chunks of a video."""
    return (_chunk_key(digest, index) for index in range(count))


def chunk_place(key: str) -> tuple[str, int | None]:
    """The digest of the video that a chunk is of, and which of its chunks it is; None if that is no number."""
    digest, _, index = key.partition("/")
    return digest, int(index) if index.isdecimal() else None


def _range(size: int, start: int, stop: int | None) -> tuple[int, int]:
    end = size if stop is None else stop
    if not 0 <= start <= end <= size:
        raise InvalidRequest("range", f"{start}-{end}", f"0 <= start <= stop <= {size}, in bytes of the video")
    return start, end


def _slices(mp4: bytes, start: int, stop: int) -> Iterator[bytes]:
    for first in range(start, stop, CHUNK_BYTES):
        yield mp4[first : min(first + CHUNK_BYTES, stop)]


def _provenance(entries: Sequence[tuple[str, str]], generation: str | None) -> Mapping[str, Json]:
    return json.loads(next((text for key, text in entries if generation in (None, key)), "{}"))
