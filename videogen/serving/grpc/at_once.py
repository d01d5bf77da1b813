"""How many calls there may be at a time. Those about the health are answered all the same: a full service lives."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from videogen.serving.grpc.held_open import Details, Stream, run

HEALTH = "/grpc.health.v1.Health/"
KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class BoundsCalls(grpc.aio.ServerInterceptor):
    """Lets `most` calls of all clients go on at once. A call counts from its message on."""

    def __init__(self, most: int) -> None:
        self.most, self._count = most, 0

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(HEALTH):
            return handler
        kind = next(kind for kind in KINDS if getattr(handler, kind) is not None)
        return handler._replace(**{kind: self._counted(getattr(handler, kind))})

    def _counted(self, method: Stream) -> Stream:
        async def counted(request: Any, context: grpc.aio.ServicerContext) -> Any:
            if self._count >= self.most:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"at most {self.most:,} calls at once")
            self._count += 1
            try:
                return await run(method, request, context)
            finally:
                self._count -= 1

        return counted
