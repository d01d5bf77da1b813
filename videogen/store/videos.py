"""Published videos by the digest of their content: chunks first, then the record that makes them visible."""

import hashlib
import json
from collections.abc import Mapping, Sequence

from videogen.errors import RecordDamaged, RecordNotFound
from videogen.store.primitives import MapPut, Record, RecordStore, Set, SetPayload, Write
from videogen.store.records import Json, VideoRecord

CHUNK_BYTES = 512 * 1024
CHUNKS_PER_CALL = 8
GRACE_S = 3600.0
"""Chunks stay this much longer than the record that names them."""


class Videos:
    """`keep` in seconds from publication."""

    def __init__(self, records: RecordStore, keep: float) -> None:
        self.records, self.keep = records, keep

    def put(self, generation: str, mp4: bytes, provenance: Mapping[str, Json]) -> str:
        """Stores a video under its digest, which it gives. Until the last write it is not to be seen."""
        digest, chunks = hashlib.sha256(mp4).hexdigest(), -(-len(mp4) // CHUNK_BYTES)
        for first in range(0, chunks, CHUNKS_PER_CALL):
            part = range(first, min(first + CHUNKS_PER_CALL, chunks))
            self.records.write_many([self._chunk(digest, index, mp4) for index in part])
        facts = json.dumps(dict(provenance), sort_keys=True)
        self.records.write(
            Write(
                "video",
                digest,
                (
                    Set("state", "whole"),
                    Set("size", len(mp4)),
                    Set("chunks", chunks),
                    Set("created_at", self.records.now()),
                    # Two generations may give the same bytes; each keeps its own facts.
                    MapPut(generation, facts),
                ),
                ttl=self.keep,
            )
        )
        return digest

    def get(self, digest: str, generation: str | None = None) -> VideoRecord:
        """Raises RecordNotFound. Without `generation`, provenance is that of the first that made these bytes."""
        record = self._whole(digest)
        entries = self.records.map_range("video", digest)
        facts = next((text for key, text in entries if generation in (None, key)), "{}")
        try:
            provenance = json.loads(facts)
        except ValueError as error:
            raise RecordDamaged(f"video {digest}: its provenance is damaged: {error}") from error
        return VideoRecord(digest, record.count("size"), record.number("created_at"), provenance)

    def read(self, digest: str) -> bytes:
        """The MP4. Raises RecordNotFound, or RecordDamaged if its bytes are not those of its digest.

        A damaged video is marked, so that the next request for it is generated again.
        """
        chunks = self._whole(digest).count("chunks")
        found: list[bytes] = []
        for first in range(0, chunks, CHUNKS_PER_CALL):
            keys = [_chunk_key(digest, i) for i in range(first, min(first + CHUNKS_PER_CALL, chunks))]
            found += [_payload(chunk) for chunk in self.records.read_many("chunk", keys)]
        mp4 = b"".join(found)
        if hashlib.sha256(mp4).hexdigest() != digest:
            self.records.write(Write("video", digest, (Set("state", "damaged"),), create="never"))
            raise RecordDamaged(f"video {digest}: its {len(mp4):,} bytes are not those that were published")
        return mp4

    def are_whole(self, digests: Sequence[str]) -> set[str]:
        """Those that can be served: their record says so. Their bytes are verified when they are read."""
        found = zip(digests, self.records.read_many("video", digests), strict=True)
        return {d for d, record in found if isinstance(record, Record) and record.bins.get("state") == "whole"}

    def _whole(self, digest: str) -> Record:
        record = self.records.read("video", digest)
        if record is None or record.bins.get("state") != "whole":
            raise RecordNotFound(f"there is no video {digest}")
        return record

    def _chunk(self, digest: str, index: int, mp4: bytes) -> Write:
        payload = mp4[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        return Write("chunk", _chunk_key(digest, index), (SetPayload(payload),), ttl=self.keep + GRACE_S)


def _chunk_key(digest: str, index: int) -> str:
    return f"{digest}/{index:06d}"


def _payload(chunk: Record | RecordDamaged | None) -> bytes:
    return chunk.payload or b"" if isinstance(chunk, Record) else b""
