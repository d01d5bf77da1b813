"""What belongs to one HTTP call from its first line to its last: its id, and its caller's trace."""

import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from videogen.serving.telemetry.logs import about
from videogen.serving.telemetry.tracing import TRACEPARENT, called_with

HEADER = "x-request-id"
SHAPE = re.compile(r"[A-Za-z0-9._-]{1,64}")


class CallContext:
    """An ASGI application around another. A caller's own `x-request-id` is kept if it could stand in any log."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(HEADER, "")
        request_id = given if SHAPE.fullmatch(given) else f"req_{uuid.uuid4().hex}"

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                told[HEADER] = request_id
                told.update(scope.get("state", {}).get("allowance", {}))
            await send(message)

        called_with(headers.get(TRACEPARENT))
        with about(request_id=request_id):
            await self.app(scope, receive, send_with_id)
