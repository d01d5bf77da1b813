"""Connections of HTTP clients: a bounded number, each with a bounded time and size for the head of a request."""

import asyncio
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from videogen.serving.http.answers import refusal

MOST = 2_048
HEAD_S = 10.0
"""From a connection, or a request's first byte, to the end of that request's head."""
MOST_HEAD_BYTES = 64 * 1024
REFUSED_S = 2.0
"""For the request of a connection too many, which gets an answer before it is closed."""
ALWAYS = (b"/healthz", b"/readyz")
"""What is answered on a connection too many: a service that is full lives."""


class BoundedConnection(HttpToolsProtocol):
    """One of at most `most`. Once it has asked something, uvicorn's own time-outs hold for it between two requests."""

    most, head_s = MOST, HEAD_S

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._ending: asyncio.TimerHandle | None = None
        self._in_head, self._head_bytes = False, 0
        self._is_too_many = len(self.connections) > self.most
        if len(self.connections) > 2 * self.most:
            transport.abort()
        else:
            self._end_in(REFUSED_S if self._is_too_many else self.head_s)

    def connection_lost(self, exc: Exception | None) -> None:
        self._go_on()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, "head_too_large", f"the head has more than {MOST_HEAD_BYTES:,} bytes")
        if self.cycle is None or self.cycle.response_complete:  # the rest of a body that nobody reads ends, too
            self._end_in(self.head_s)
        else:
            self._go_on()

    # What the parser tells

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._is_too_many and self.url.partition(b"?")[0] not in ALWAYS:
            self._refuse(503, "too_many_connections", f"there are {self.most:,} connections; allowed: no more")
            return
        super().on_headers_complete()
        if self._is_too_many:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        if self.cycle is not None:  # else it was refused
            super().on_body(body)

    def on_message_complete(self) -> None:
        if self.cycle is not None:
            super().on_message_complete()

    # Time-outs

    def _end_in(self, seconds: float) -> None:
        """Ends it then, unless that is due already."""
        if self._ending is None:
            self._ending = self.loop.call_later(seconds, self._late)

    def _go_on(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
            self._ending = None

    def _late(self) -> None:
        if self._in_head:
            self._refuse(408, "head_too_slow", f"the head took more than {self.head_s:g} s to come")
        else:
            self.transport.close()

    def _refuse(self, status: int, code: str, message: str) -> None:
        if self.transport.is_closing():
            return
        answer = refusal(status, code, message, headers={"connection": "close", "retry-after": "1"})
        lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}".encode()]
        lines += [name + b": " + value for name, value in answer.raw_headers]
        self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()
