"""The HTTP face under load: one POST for a whole MP4, over kept connections, with as little work as can be.

On the same cores, a request's CPU is taken from the service: httpx takes more than five times that of this client.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from videogen.errors import InvalidRequest, ServiceAway
from videogen.loads.answers import Answer, is_mp4, refused

HINT = "is it running? start it with: videogen serve"
CONNECT_S = 10.0


@dataclass(slots=True)
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> tuple[str, str]:
        """Code and message of a refusal."""
        try:
            told = json.loads(self.body)["error"]
            return str(told["code"]), str(told["message"])
        except (ValueError, KeyError, TypeError):
            return f"HTTP {self.status}", self.body[:200].decode("utf-8", "replace")


class Connection(asyncio.Protocol):
    """One connection that asks one thing at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    async def ask(self, request: bytes) -> Reply:
        """Raises OSError if the connection breaks before the answer is whole."""
        assert self.transport is not None
        self._parser, self._reply, self._body = httptools.HttpResponseParser(self), Reply(), bytearray()
        self._answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        try:
            return await self._answer
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        finally:
            self._answer = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc if isinstance(exc, OSError) else ConnectionResetError("the service closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError) as error:  # an answer that is none, or to no question
            assert self.transport is not None
            self.transport.abort()
            self._fail(ConnectionError(f"not an answer in HTTP: {error}"))

    def _fail(self, error: OSError) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)

    # What the parser tells

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._reply.status, self._reply.body = self._parser.get_status_code(), bytes(self._body)
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(self._reply)


class Http:
    """Connections to the service at `url` (http:// if it has no scheme), reused, the latest first.

    Raises InvalidRequest for a URL that is none.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        url = url if "://" in url else f"http://{url}"
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query:
            raise InvalidRequest("URL", url, "http:// or https://, a host, and a port, such as http://127.0.0.1:8000")
        self.url, self._host, self._base = url, parts.hostname, parts.path.rstrip("/")
        self._port = port or (443 if parts.scheme == "https" else 80)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._head = f"host: {parts.netloc.rpartition('@')[2]}\r\n"
        self._head += f"authorization: Bearer {api_key}\r\n" if api_key else ""
        self._idle: list[Connection] = []

    async def check(self) -> None:
        """Raises ServiceAway unless the service says that it is ready."""
        try:
            async with asyncio.timeout(CONNECT_S):
                reply = await self.ask(self.request("GET", "/readyz"))
        except (OSError, TimeoutError) as error:
            raise ServiceAway(f"{self.url} does not answer: {error or 'no answer in time'}; {HINT}") from error
        if reply.status != 200:
            told = reply.body[:200].decode("utf-8", "replace")
            raise ServiceAway(f"{self.url} is not ready: HTTP {reply.status} {told}")

    def request(self, method: str, path: str, body: bytes = b"") -> bytes:
        """A request as it goes over the wire."""
        kind = f"content-type: application/json\r\ncontent-length: {len(body)}\r\n" if body else ""
        return f"{method} {self._base}{path} HTTP/1.1\r\n{self._head}{kind}\r\n".encode() + body

    async def ask(self, request: bytes) -> Reply:
        """Raises OSError where there is no whole answer."""
        connection = await self._connection()
        reply = await connection.ask(request)
        if connection.is_open:
            self._idle.append(connection)
        return reply

    async def _connection(self) -> Connection:
        while self._idle:
            if (connection := self._idle.pop()).is_open:
                return connection
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, self._host, self._port, ssl=self._tls)
        return connection

    async def generate(self, fields: Mapping[str, Any]) -> Answer:
        """Asks for a video and waits for all of it."""
        body = json.dumps(fields).encode()
        return judged(await self.ask(self.request("POST", "/v1/videos/sync", body)))

    async def close(self) -> None:
        for connection in self._idle:
            if connection.transport is not None:
                connection.transport.close()


def judged(reply: Reply) -> Answer:
    """A reply as the answer that it is: an MP4 as its ETag says, a refusal, or a failure."""
    if reply.status == 200:
        etag = reply.headers.get("etag", "").strip('"')
        if is_mp4(reply.body) and etag in ("", hashlib.sha256(reply.body).hexdigest()):
            return Answer("answered")
        return Answer("failed", "not an MP4, or not the one that its ETag names")
    code, message = reply.error
    if reply.status == 429:
        return refused(code, message, says_when="retry-after" in reply.headers)
    return Answer("failed", f"HTTP {reply.status} {code}: {message}")
