"""Streams that anybody may hold open without a key: how many there may be at once, and for how long."""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import grpc

from videogen.serving.grpc.calling import peer_host

Details = grpc.HandlerCallDetails
Stream = Callable[[Any, grpc.aio.ServicerContext], Any]


@dataclass(frozen=True, slots=True)
class Bound:
    """`most` at once, `each` of them from one address; `seconds` of each, None for as long as the client likes."""

    most: int
    seconds: float | None = None
    each: int | None = None


BOUNDS = {
    "/grpc.health.v1.Health/Watch": Bound(128, each=32),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Bound(32, 60.0),
}


class BoundsStreams(grpc.aio.ServerInterceptor):
    """Bounds the streams of the methods in `bounds`, by their full names."""

    def __init__(self, bounds: Mapping[str, Bound]) -> None:
        self.bounds = bounds
        self._open = Counter[tuple[str, str]]()

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
            everybody, own = (method, ""), (method, peer_host(context.peer()))
            if self._open[everybody] >= bound.most:
                text = f"at most {bound.most:,} streams of {method} at once"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            if bound.each is not None and self._open[own] >= bound.each:
                text = f"at most {bound.each:,} streams of {method} at once from one address"
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, text)
            self._open.update((everybody, own))
            try:
                async with asyncio.timeout(bound.seconds):
                    await run(stream, request, context)
            except TimeoutError:
                await context.abort(
                    grpc.StatusCode.DEADLINE_EXCEEDED, f"a stream of {method} ends after {bound.seconds:g} s"
                )
            finally:
                self._open -= Counter((everybody, own))

        return bounded


async def run(method: Stream, request: Any, context: grpc.aio.ServicerContext) -> Any:
    """Runs a method, which may be a generator of a stream's answers, to its end."""
    if not inspect.isasyncgenfunction(method):
        return await method(request, context)
    async for answer in method(request, context):
        await context.write(answer)
    return None
