"""Bytes that are no message: told to the caller as such, where gRPC would call them an error of the server."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

PACKAGE = "/videogen.v1."
Details = grpc.HandlerCallDetails


@dataclass(frozen=True, slots=True)
class Malformed:
    """What a method gets in place of a message that could not be read. `size` in bytes."""

    size: int


class ReadsMalformed(grpc.aio.ServerInterceptor):
    """Hands `Malformed` to the methods of videogen.v1."""

    async def intercept_service(
        self, continuation: Callable[[Details], Awaitable[Any]], handler_call_details: Details
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(PACKAGE):
            return handler
        read = handler.request_deserializer

        def reads(packed: bytes) -> Any:
            try:
                return read(packed)
            except DecodeError:
                return Malformed(len(packed))

        return handler._replace(request_deserializer=reads)
