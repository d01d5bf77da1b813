"""`/v1/videos/{id}/content`: the MP4, whole or in part, and pictures of it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractContextManager
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from videogen.serving.http import ranges
from videogen.serving.http.answers import Refused
from videogen.serving.http.previews import MEDIA_TYPES, Previews, Variant
from videogen.serving.jobs import Caller, Content
from videogen.serving.service import Service

Hold: TypeAlias = Callable[[], AbstractContextManager[None]]
"""Holds one of a caller's streams. Raises RateLimited."""
AT_ONCE = 256 * 1024
"""Bytes of an answer that are read before it begins."""


async def content_of(service: Service, video_id: str, caller: Caller) -> Content:
    """Raises Refused (404) while there is nothing to read yet, or never will be."""
    job = await service.get(video_id, caller)
    if job.status == "failed":
        raise Refused(404, "video_failed", f"video {video_id} failed: it has no content")
    if job.status != "completed":
        raise Refused(404, "video_not_ready", f"video {video_id} is {job.status}: it has no content yet")
    return service.contents.of(job)


async def whole(content: Content, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([piece async for piece in content.stream(start, stop)])


async def held(pieces: AsyncIterator[bytes], hold: Hold) -> AsyncIterator[bytes]:
    """The pieces, while they hold one of the caller's streams."""
    with hold():
        async for piece in pieces:
            yield piece


async def mp4(content: Content, headers: Mapping[str, str], hold: Hold, part: ranges.Part | None = None) -> Response:
    """The bytes, or a part of them: at once if they are few, else streamed, so that they are never all in memory."""
    start, stop, status = (part.start, part.stop, part.status) if part else (0, content.size, 200)
    if stop - start <= AT_ONCE:
        return Response(await whole(content, start, stop), status, headers, media_type="video/mp4")
    with hold():  # what is refused is refused before the answer begins
        pass
    return StreamingResponse(held(content.stream(start, stop), hold), status, headers, media_type="video/mp4")


async def video(request: Request, content: Content, name: str, hold: Hold) -> Response:
    """The bytes that `request` asks for, streamed; nothing waits for a slow client but its own answer."""
    etag = f'"{content.digest}"'
    part = ranges.wanted(request.headers, content.size, etag)
    headers = ranges.headers_of(part, content.size, etag)
    if part.status == 304:
        return Response(status_code=304, headers=headers)
    if part.status == 416:
        given = request.headers.get("range", "")
        message = f"range: got {given[:80]!r}; allowed: within the {content.size} bytes of the video"
        raise Refused(416, "range_not_satisfiable", message, "range", headers)
    headers["Content-Disposition"] = f'inline; filename="{name}.mp4"'
    if request.method == "HEAD":
        return Response(status_code=part.status, headers=headers, media_type="video/mp4")
    return await mp4(content, headers, hold, part)


async def picture(request: Request, content: Content, variant: Variant, previews: Previews) -> Response:
    """A picture of the whole video; ranges are not offered."""
    etag = f'"{content.digest}-{variant}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600"}
    if ranges.wanted(request.headers, 0, etag).status == 304:
        return Response(status_code=304, headers=headers)
    data = await previews.get(content.digest, variant, lambda: whole(content))
    return Response(data, media_type=MEDIA_TYPES[variant], headers=headers)
