"""Which bytes of a video a request asks for, and whether its client has them already (RFC 9110, sections 13 and 14)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

RANGE = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*")


@dataclass(frozen=True, slots=True)
class Part:
    """`status` 200, 206, 304 or 416, and the bytes from `start` up to `stop`."""

    status: int
    start: int
    stop: int


def wanted(headers: Mapping[str, str], size: int, etag: str) -> Part:
    """What `headers` ask for of `size` bytes. Several ranges, and what is no range, get all of it."""
    if etag in _tags(headers.get("if-none-match", "")) or headers.get("if-none-match", "").strip() == "*":
        return Part(304, 0, 0)
    found = RANGE.fullmatch(headers.get("range", ""))
    if found is None or headers.get("if-range", etag).strip() != etag:
        return Part(200, 0, size)
    first, last = found.groups()
    if not first and not last:
        return Part(200, 0, size)
    if first and last and int(last) < int(first):
        return Part(200, 0, size)
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    return Part(206, start, stop) if start < stop else Part(416, 0, 0)


def _tags(header: str) -> set[str]:
    return {tag.strip().removeprefix("W/") for tag in header.split(",")}


def headers_of(part: Part, size: int, etag: str) -> dict[str, str]:
    """The headers that an answer with `part` has beside those of its kind."""
    told = {"ETag": etag, "Accept-Ranges": "bytes", "Cache-Control": "private, max-age=3600"}
    if part.status == 206:
        told["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    if part.status == 416:
        told["Content-Range"] = f"bytes */{size}"
    if part.status in (200, 206):
        told["Content-Length"] = str(part.stop - part.start)
    return told
