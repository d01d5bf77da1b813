"""A Redis as somebody else's service filled it: which keys hold what, by a layout that is read from a file."""

import base64
import binascii
import functools
import json
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from videogen.errors import InvalidRequest, InvalidStoreUrl, StoreUnavailable, VideogenError
from videogen.requests import Lane

PAGE = 500
ANSWER_S = 30.0


class Unmapped(VideogenError):
    """Something of theirs that has no place in ours; the message says why."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VideoKeys(_Table):
    keys: str = "video:{hash}"
    encoding: Literal["bytes", "base64"] = "bytes"
    request: str = "request:{hash}"


class QueueKeys(_Table):
    waiting: tuple[str, ...]
    job: str
    field: str = "data"
    lane: Lane = "batch"


class SessionKeys(_Table):
    keys: str
    tenant: str = "userId"
    defaults: str = "defaults"
    edit_state: str = "editState"
    videos: str = "recentVideos"
    ignore: tuple[str, ...] = ()


class IgnoredKeys(_Table):
    keys: tuple[str, ...] = ()


class Layout(_Table):
    """Where a service keeps its videos, its queue and its sessions; a part that is left out is not looked for."""

    videos: VideoKeys | None = None
    queue: QueueKeys | None = None
    sessions: SessionKeys | None = None
    fields: dict[str, str]
    models: dict[str, str] = {}
    ignore: IgnoredKeys = IgnoredKeys()


def read_layout(name: str) -> Layout:
    """The layout that ships as `name`, or the TOML file there. Raises InvalidRequest, naming what is wrong in it."""
    shipped = resources.files("videogen.store.moving").joinpath("layouts")
    names = sorted(file.name.removesuffix(".toml") for file in shipped.iterdir() if file.name.endswith(".toml"))
    allowed = f"{', '.join(names)}, or a TOML file like videogen/store/moving/layouts/typescript.toml"
    try:
        text = shipped.joinpath(f"{name}.toml").read_text() if name in names else Path(name).read_text()
        return Layout(**tomllib.loads(text))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidRequest("--layout", name, f"{allowed} ({error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidRequest(
            ".".join(map(str, first["loc"])), first["input"], f"{first['msg']}, in {allowed}"
        ) from error


class ForeignRedis:
    """Reads the keys of a Redis that a layout describes; writes nothing. Methods raise StoreUnavailable."""

    def __init__(self, url: str, layout: Layout) -> None:
        try:
            import redis
        except ImportError as error:
            raise StoreUnavailable(f"{error}; it comes with: pip install '.[redis]' in the checkout") from error
        self.layout, self._errors, self._type_error = layout, redis.RedisError, redis.ResponseError
        try:
            self._redis: Any = redis.Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S)
        except ValueError as error:
            raise InvalidStoreUrl(url, f"redis://[<user>:<password>@]<host>[:6379][/<number>] ({error})") from error
        self._ask(self._redis.ping)

    def close(self) -> None:
        self._redis.close()

    def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except self._type_error as error:
            raise Unmapped(f"it is of another type: {error}") from error
        except self._errors as error:
            raise StoreUnavailable(f"the Redis that is read: {error}") from error

    def all_keys(self) -> Iterator[str]:
        """Every key, some perhaps twice."""
        cursor = 0
        while True:
            cursor, page = self._ask(lambda at=cursor: self._redis.scan(at, count=PAGE))
            yield from (key.decode(errors="replace") for key in page)
            if cursor == 0:
                return

    def waiting(self) -> Iterator[str]:
        """Ids of the jobs that wait, in the order in which they would be made."""
        for key in self.layout.queue.waiting if self.layout.queue else ():
            is_list = self._ask(self._redis.type, key) == b"list"
            size = self._ask(self._redis.llen if is_list else self._redis.zcard, key)
            for first in range(0, size, PAGE):
                last = min(first + PAGE, size) - 1
                if is_list:
                    page = list(reversed(self._ask(self._redis.lrange, key, -last - 1, -first - 1)))
                else:
                    page = self._ask(self._redis.zrange, key, first, last)
                yield from (member.decode(errors="replace") for member in page)

    def job(self, job_id: str) -> tuple[str, Mapping[str, Any]]:
        """A job's key, and what it asks for. Raises Unmapped."""
        queue = self.layout.queue
        assert queue is not None
        key = queue.job.replace("{id}", job_id)
        text = self._ask(self._redis.hget, key, queue.field) if queue.field else self._ask(self._redis.get, key)
        return key, _object(text)

    def request(self, video_hash: str) -> Mapping[str, Any]:
        """What a video was asked for with. Raises Unmapped."""
        assert self.layout.videos is not None
        return _object(self._ask(self._redis.get, self.layout.videos.request.replace("{hash}", video_hash)))

    def video(self, video_hash: str) -> bytes:
        """A video's MP4. Raises Unmapped."""
        assert self.layout.videos is not None
        found = self._ask(self._redis.get, self.layout.videos.keys.replace("{hash}", video_hash))
        if not found:
            raise Unmapped("its video is not there, or empty")
        if self.layout.videos.encoding == "bytes":
            return found
        try:
            return base64.b64decode(found, validate=True)
        except binascii.Error as error:
            raise Unmapped(f"its video is no base64: {error}") from error

    def has_video(self, video_hash: str) -> bool:
        assert self.layout.videos is not None
        return bool(self._ask(self._redis.exists, self.layout.videos.keys.replace("{hash}", video_hash)))

    def session(self, key: str) -> tuple[Mapping[str, Any], float | None]:
        """A session's JSON, and how many seconds it has left, None if it never expires. Raises Unmapped."""
        left = self._ask(self._redis.pttl, key)
        return _object(self._ask(self._redis.get, key)), None if left < 0 else max(left / 1000, 0.001)


def part_of(layout: Layout, key: str) -> tuple[str, str]:
    """What a key is of: video, request, job, queue, session, ignored or unknown; and the id or hash in it."""
    if any(matched(pattern, key) is not None for pattern in layout.ignore.keys):
        return "ignored", ""
    if layout.queue is not None and key in layout.queue.waiting:
        return "queue", ""
    patterns: list[tuple[str, str]] = []
    if layout.videos is not None:
        patterns += [("video", layout.videos.keys), ("request", layout.videos.request)]
    if layout.sessions is not None:
        patterns.append(("session", layout.sessions.keys))
    if layout.queue is not None:
        patterns.append(("job", layout.queue.job))
    for part, pattern in patterns:
        if (found := matched(pattern, key)) is not None:
            return part, found
    return "unknown", ""


@functools.cache
def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\{id\}|\{hash\}|\*)", pattern)
    text = "".join("(.+)" if part in ("{id}", "{hash}") else ".*" if part == "*" else re.escape(part) for part in parts)
    return re.compile(text, re.DOTALL)


def matched(pattern: str, key: str) -> str | None:
    """What stands in `key` for {id} or {hash}, "" if the pattern has none; None if it is of another pattern."""
    found = _expression(pattern).fullmatch(key)
    return None if found is None else found[1] if found.lastindex else ""


def _object(text: bytes | None) -> Mapping[str, Any]:
    if text is None:
        raise Unmapped("what was asked for is not there")
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Unmapped(f"what was asked for is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Unmapped(f"what was asked for is no object: {str(found)[:60]}")
    return found
