"""Streams that anybody may hold open without a key: how many there may be at once, and for how long."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

Details = grpc.HandlerCallDetails
Stream = Callable[[Any, grpc.aio.ServicerContext], Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """`most` at once; `seconds` of each, None for as long as the client likes."""

    most: int
    seconds: float | None = None


BOUNDS = {
    "/grpc.health.v1.Health/Watch": Bound(128),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Bound(32, 60.0),
}


class BoundsStreams(grpc.aio.ServerInterceptor):
    """Bounds the streams of the methods in `bounds`, by their full names."""

    def __init__(self, bounds: Mapping[str, Bound]) -> None:
        self.bounds = bounds
        self._open = Counter[str]()

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method not in self.bounds:
            return handler
        kind = "stream_stream" if handler.request_streaming else "unary_stream"
        return handler._replace(**{kind: self._bounded(method, getattr(handler, kind))})

    def _bounded(self, method: str, stream: Stream) -> Stream:
        bound = self.bounds[method]

        async def bounded(request: Any, context: grpc.aio.ServicerContext) -> None:
            if self._open[method] >= bound.most:
                text = f"at most {bound.most:,} streams of {method} at once"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            self._open[method] += 1
            try:
                async with asyncio.timeout(bound.seconds):
                    await _run(stream, request, context)
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"a stream of {method} ends after {bound.seconds:g} s"
                )
            finally:
                self._open[method] -= 1

        return bounded


async def _run(stream: Stream, request: Any, context: grpc.aio.ServicerContext) -> None:
    if not inspect.isasyncgenfunction(stream):
        await stream(request, context)
        return
    async for answer in stream(request, context):
        await context.write(answer)
