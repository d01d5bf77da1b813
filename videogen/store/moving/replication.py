"""Finished videos from one store to a second one, in one direction, again and again.

For servers that do not copy between data centres themselves. What goes over: videos that can be served, with their
chunks and provenance, and the generations that they answer; so the second store answers from its cache what the first
one has made. Requests, leases, sessions, limits and champions stay where they are.

A pass looks at what was written since the last one began, by the source's clock, and copies chunks, then the video,
then the generation: broken off anywhere, it leaves nothing that could be served wrong, and the next one goes on. Which
of two copies of a video is newer is told by their expiry, which only publications set. What the second store makes or
has made itself stays.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from videogen.errors import RecordDamaged
from videogen.store.moving.copying import Read, copy_record
from videogen.store.primitives import NEVER, Is, MapPut, Record, RecordStore, Set, Write
from videogen.store.queue import chunks
from videogen.store.stats import REPLICA
from videogen.store.videos import CHUNKS_PER_CALL, chunk_keys

OVERLAP_S = 60.0
"""By which a pass looks back behind the last one: nodes' clocks differ, and writes may be under way."""
AT_ONCE = 64
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did. Bytes are those of copied videos; `damaged` names the first that could not be copied.

    `left`: what changed while it was copied, so that the next pass looks at it again. `lag_s`: everything that was
    finished longer ago than this, when the pass ended, is in the second store, but for what was left or damaged.
    """

    seen: int = 0
    videos: int = 0
    generations: int = 0
    bytes: int = 0
    left: int = 0
    damaged: tuple[str, ...] = ()
    lag_s: float = 0.0


Progress = Callable[[Pass], None]


class Replicator:
    """Copies from `source`, which is only read, to `target`, which remembers how far it is under `name`."""

    def __init__(self, source: RecordStore, target: RecordStore, name: str) -> None:
        self.source, self.target, self.name = source, target, name

    def run(self, from_start: bool = False, on_progress: Progress = lambda done: None) -> Pass:
        """One pass; `from_start` looks at everything. Raises StoreUnavailable: then nothing but time is lost."""
        began, done = self.source.now(), Pass()
        since = 0.0 if from_start else self._since(began)
        for kind, copy in (("video", self._videos), ("generation", self._generations)):
            for keys in chunks(self.source.keys(kind, since), AT_ONCE):
                done = copy(replace(done, seen=done.seen + len(keys)), keys)
                on_progress(done)
        self.target.flush()
        done = replace(done, lag_s=max(0.0, self.source.now() - began))
        if not done.left:
            self._remember(began, done.lag_s)
        return done

    def _since(self, now: float) -> float:
        """From when on to look: 0 if there was no pass yet, or the source is another one by now."""
        found = [text for name, text in self.target.map_range(REPLICA, "all") if name == self.name]
        last = json.loads(found[0])["since"] if found else 0.0
        return max(0.0, last - OVERLAP_S) if last <= now else 0.0

    def _remember(self, since: float, lag_s: float) -> None:
        state = json.dumps({"since": since, "at": self.target.now(), "lag_s": lag_s})
        self.target.write(Write(REPLICA, "all", (MapPut(self.name, state),), ttl=NEVER))

    def _both(self, kind: str, keys: Sequence[str]) -> list[tuple[str, Read, Read]]:
        sides = (store.read_many(kind, keys, aged=True) for store in (self.source, self.target))
        return [(key, *pair) for key, *pair in zip(keys, *sides, strict=True)]

    def _videos(self, done: Pass, digests: Sequence[str]) -> Pass:
        now = self.source.now()
        for digest, video, other in self._both("video", digests):
            if isinstance(video, RecordDamaged):
                done = _with_damaged(done, digest)
            elif video is not None and _is_served(video, now) and _is_newer(video, other):
                done = self._video(done, digest, video, other)
        return done

    def _video(self, done: Pass, digest: str, video: Record, other: Read) -> Pass:
        try:
            if not self._chunks(digest, video):
                return replace(done, left=done.left + 1)
        except RecordDamaged:
            return _with_damaged(done, digest)
        facts = [MapPut(*entry) for page in self.source.map_pages("video", digest) for entry in page]
        operations = (*(Set(name, value) for name, value in video.bins.items()), *facts)
        if self.target.write(_over(digest, operations, other, _ttl(video))) is None:
            return replace(done, left=done.left + 1)
        return replace(done, videos=done.videos + 1, bytes=done.bytes + video.count("size"))

    def _chunks(self, digest: str, video: Record) -> bool:
        """Are all of them in the target? Raises RecordDamaged if one is not what was published."""
        for keys in chunks(chunk_keys(digest, video.count("chunks")), CHUNKS_PER_CALL):
            for key, chunk, other in self._both("chunk", keys):
                if not isinstance(chunk, Record) or not _is_intact(video, key, chunk):
                    raise RecordDamaged(f"chunk {key}")
                if not copy_record(("chunk", key), self.source, chunk, self.target, other):
                    return False
        return True

    def _generations(self, done: Pass, keys: Sequence[str]) -> Pass:
        both = self._both("generation", keys)
        wanted = [
            (key, generation, other)
            for key, generation, other in both
            if isinstance(generation, Record) and generation.bins.get("state") == "done" and _is_free(other)
        ]
        digests = [str(generation.bins.get("video")) for _, generation, _ in wanted]
        videos, now = self.target.read_many("video", digests), self.target.now()
        for (key, generation, other), video in zip(wanted, videos, strict=True):
            if isinstance(video, Record) and _is_served(video, now):
                copied = copy_record(("generation", key), self.source, generation, self.target, other)
                done = replace(done, generations=done.generations + copied, left=done.left + (not copied))
        return done


def _with_damaged(done: Pass, digest: str) -> Pass:
    return replace(done, damaged=(*done.damaged, f"video {digest}")[:MOST_NAMED])


def _is_served(video: Record, now: float) -> bool:
    return video.bins.get("state") == "whole" and _expiry(video) > now


def _is_newer(video: Record, other: Read) -> bool:
    is_there = isinstance(other, Record) and other.bins.get("state") == "whole"
    return not is_there or _expiry(video) > _expiry(other)


def _expiry(video: Record) -> float:
    """0 for one from before this was recorded, or that nobody can read: it is made again, and copied then."""
    expires_at = video.bins.get("expires_at")
    return expires_at if isinstance(expires_at, int | float) else 0.0


def _is_intact(video: Record, key: str, chunk: Record) -> bool:
    digests = video.bins.get("chunk_digests")
    index = int(key.rpartition("/")[2])
    is_known = isinstance(digests, list) and index < len(digests)
    return is_known and hashlib.sha256(chunk.payload or b"").hexdigest() == digests[index]


def _is_free(other: Read) -> bool:
    """Does nobody at the second store make it just now, or has made it?"""
    if not isinstance(other, Record):
        return True
    state, lease_s = other.bins.get("state"), other.bins.get("lease_s")
    is_held = state == "held" and isinstance(lease_s, int | float) and other.age < lease_s
    return state != "done" and not is_held


def _over(digest: str, operations: tuple[Set | MapPut, ...], other: Read, ttl: float) -> Write:
    if isinstance(other, Record):
        return Write("video", digest, operations, "never", Is("expires_at", other.bins.get("expires_at")), ttl)
    return Write("video", digest, operations, "only" if other is None else "allow", ttl=ttl)


def _ttl(record: Record) -> float:
    return NEVER if record.expires_in is None else max(record.expires_in, 0.001)
