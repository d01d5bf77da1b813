"""`/v1/videos/{id}/events`: server-sent events, one for every change of a job until its end (WHATWG HTML, 9.2)."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from videogen.errors import VideogenError
from videogen.serving.http.answers import of_error
from videogen.serving.http.shapes import video
from videogen.serving.jobs import VideoJob

HEARTBEAT_S = 15.0


async def events(jobs: AsyncIterator[VideoJob], heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[bytes]:
    """`video.STATUS` with the video as data, or `error` with a refusal's, and then no more.

    A comment where nothing happens, so that proxies keep the line open.
    """
    pending: asyncio.Future[VideoJob] | None = None
    try:
        while True:
            pending = pending or asyncio.ensure_future(anext(jobs))
            done, _ = await asyncio.wait({pending}, timeout=heartbeat_s)
            if not done:
                yield b": still here\n\n"
                continue
            ended, pending = pending, None
            try:
                job = ended.result()
            except StopAsyncIteration:
                return
            except VideogenError as error:  # it was deleted meanwhile, or the store went away
                yield b"event: error\ndata: " + bytes(of_error(error).body) + b"\n\n"
                return
            data = json.dumps(video(job), separators=(",", ":"))
            yield f"event: video.{job.status}\ndata: {data}\n\n".encode("ascii")
    finally:
        if pending is not None:
            pending.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration, VideogenError):
                await pending
