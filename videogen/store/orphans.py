"""Chunks that belong to no video: those of a publication that never ended, of a damaged video, of one that shrank.

They go in two passes, so that none is taken from a publication that is under way: the first marks them, a later one
removes those that nobody wrote for `ORPHAN_S` since. Removing is a write under that condition.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from videogen.errors import RecordDamaged
from videogen.store.primitives import Is, Record, RecordStore, Set, SetPayload, Unwritten, Write, every
from videogen.store.queue import chunks
from videogen.store.videos import chunk_place

ORPHAN_S = 3600.0
GONE_S = 1.0
MARK = "orphan_s"
MOST = 10_000
LOOKED_AT_ONCE = 256
DUE = every(Is(MARK, ORPHAN_S), Unwritten(MARK))


@dataclass(frozen=True, slots=True)
class Swept:
    """What a pass did. `orphans`: digest of a video and what is wrong with it -> its chunks that are in the way.

    `is_cut`: it ended before it had seen all chunks.
    """

    looked: int = 0
    orphans: Mapping[tuple[str, str], int] = field(default_factory=dict)
    marked: int = 0
    removed: int = 0
    is_cut: bool = False


def sweep(records: RecordStore, most: int = MOST, dry_run: bool = False) -> Swept:
    """Walks the names of all chunks until it has found `most` orphans; `dry_run` only counts them.

    Raises StoreUnavailable.
    """
    looked = marked = removed = 0
    orphans: Counter[tuple[str, str]] = Counter()
    for keys in chunks(records.keys("chunk"), LOOKED_AT_ONCE):
        looked += len(keys)
        found = dict(_orphans(records, keys))
        orphans.update((chunk_place(key)[0], why) for key, why in found.items())
        if not dry_run:
            gone = records.write_many([_remove(key) for key in found])
            left = [key for key, done in zip(found, gone, strict=True) if done is None]
            removed += len(found) - len(left)
            marked += sum(done is not None for done in records.write_many([_mark(key) for key in left]))
        if orphans.total() >= most:
            return Swept(looked, orphans, marked, removed, is_cut=True)
    return Swept(looked, orphans, marked, removed)


def _orphans(records: RecordStore, keys: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Those of the chunks that belong to no video, each with the reason."""
    digests = list({chunk_place(key)[0] for key in keys})
    videos = dict(zip(digests, records.read_many("video", digests), strict=True))
    for key in keys:
        digest, index = chunk_place(key)
        if why := _why(videos[digest], index):
            yield key, why


def _why(video: Record | RecordDamaged | None, index: int | None) -> str | None:
    if video is None:
        return "there is no such video"
    if isinstance(video, RecordDamaged) or video.bins.get("state") != "whole":
        return "the video is damaged"
    count = video.bins.get("chunks")
    return None if index is None or not isinstance(count, int) or index < count else "beyond the video's end"


def _remove(key: str) -> Write:
    return Write("chunk", key, (SetPayload(b""),), "never", DUE, GONE_S)


def _mark(key: str) -> Write:
    return Write("chunk", key, (Set(MARK, ORPHAN_S),), "never", Is(MARK, None))
