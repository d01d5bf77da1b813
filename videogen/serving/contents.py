"""Finished videos' bytes, streamed out of the store."""

from collections.abc import AsyncGenerator, Iterator

from videogen.errors import RecordExpired, StoreConflict
from videogen.serving.jobs import Content, VideoJob
from videogen.serving.store_calls import Call
from videogen.store.store import Store

PIECE = 1024 * 1024
"""Bytes that are given at once where they are in memory."""


class Contents:
    """What is not taken stays in the store: a slow reader keeps no more than a piece in memory."""

    def __init__(self, store: Store, call: Call) -> None:
        self.store, self.call = store, call

    def of(self, job: VideoJob) -> Content:
        """The video of a job as it was looked at just now.

        Raises StoreConflict while there is none, RecordExpired when it is gone.
        """
        if job.state != "done":
            raise StoreConflict(f"video {job.id} is {job.state}: it has no content")
        if job.video is None:
            raise RecordExpired(f"video {job.id} has expired")
        digest = job.video.digest
        return Content(digest, job.video.size, lambda start, stop: self._pieces(digest, start, stop))

    async def _pieces(self, digest: str, start: int, stop: int) -> AsyncGenerator[bytes]:
        if stop - start <= PIECE and (held := self.store.held_video(digest)) is not None:
            yield held[start:stop]
            return

        def begin() -> tuple[Iterator[bytes], bytes | None]:
            pieces = self.store.stream_video(digest, start, stop)
            return pieces, next(pieces, None)

        pieces, piece = await self.call(begin)
        left = stop - start
        while piece is not None:
            yield piece
            left -= len(piece)
            piece = await self.call(lambda: next(pieces, None)) if left else None
