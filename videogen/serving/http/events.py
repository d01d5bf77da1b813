"""`/v1/videos/{id}/events`: server-sent events, one for every change of a job until its end (WHATWG HTML, 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from videogen.serving.http.shapes import video
from videogen.serving.jobs import VideoJob

HEARTBEAT_S = 15.0


async def events(jobs: AsyncIterator[VideoJob], heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[bytes]:
    """`video.STATUS` with the video as data; a comment where nothing happens, so that proxies keep the line open."""
    pending: asyncio.Future[VideoJob] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(jobs))
            done, _ = await asyncio.wait({pending}, timeout=heartbeat_s)
            if not done:
                yield b": still here\n\n"
                continue
            try:
                job = pending.result()
            except StopAsyncIteration:
                return
            pending = None
            data = json.dumps(video(job), separators=(",", ":"))
            yield f"event: video.{job.status}\ndata: {data}\n\n".encode("ascii")
    finally:
        if pending is not None:
            pending.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await pending
