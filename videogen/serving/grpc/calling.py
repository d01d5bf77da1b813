"""What every call has in common: who calls, and how an error is told."""

import functools
import ipaddress
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeVar, cast
from urllib.parse import unquote

import grpc
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from videogen.errors import InvalidRequest, VideogenError
from videogen.serving.access import Access, Scope, require
from videogen.serving.grpc.errors import abort
from videogen.serving.grpc.malformed import Malformed
from videogen.serving.jobs import Caller
from videogen.serving.limits import Allowance, Limits, Verb
from videogen.serving.service import Service
from videogen.serving.telemetry.observing import reason_of
from videogen.serving.telemetry.tracing import TRACEPARENT, called_with

logger = logging.getLogger(__name__)
T = TypeVar("T")
Method = Callable[..., Awaitable[Any]]


class Face:
    """A gRPC service over the core; the base of each."""

    def __init__(self, service: Service, access: Access, limits: Limits) -> None:
        self.service, self.access, self.limits = service, access, limits

    async def take(self, caller: Caller, context: grpc.aio.ServicerContext) -> None:
        """Takes one request out of the caller's rate. Raises RateLimited."""
        tell(context, await self.limits.take(caller))


def answers(scope: Scope = "user", *, reads: Verb | None = None) -> Callable[[Method], Method]:
    """Makes `method(self, request, context, caller)` a gRPC method for keys with `scope`; our errors end the call.

    One that `reads` takes a look, or a cancellation, out of what the caller may have.
    """

    def wrap(method: Method) -> Method:
        @functools.wraps(method)
        async def wrapped(self: Face, request: Message | Malformed, context: grpc.aio.ServicerContext) -> Any:
            try:
                called_with(metadata(context, TRACEPARENT))
                header = metadata(context, "authorization")
                caller = await self.access.authenticate(header, peer_is_loopback(context.peer()))
                require(caller, scope)
                if reads is not None:
                    tell(context, await self.limits.read(caller, reads))
                if isinstance(request, Malformed):
                    raise InvalidRequest("message", f"{request.size} bytes", "a message of videogen.v1")
                refuse_unknown(request)
                return await method(self, request, context, caller)
            except VideogenError as error:
                if (reason := reason_of(error)) is not None:
                    self.service.observer.refused(reason)
                return await abort(context, error)
            except Exception:  # a fault of ours, whose text is not the client's
                logger.exception("%s failed", type(request).__name__)
                return await context.abort(grpc.StatusCode.INTERNAL, "the service failed; its log says why")

        return wrapped

    return wrap


def tell(context: grpc.aio.ServicerContext, left: Allowance) -> None:
    """Has the call end, however it does, with what is left to its caller, by the names that it has over HTTP."""
    context.set_trailing_metadata(tuple(left.headers().items()))


def closing(items: AsyncIterator[T]) -> "aclosing[AsyncGenerator[T]]":
    """A generator of the core's, closed at the end of a `with`, however that comes."""
    return aclosing(cast("AsyncGenerator[T]", items))


def metadata(context: grpc.aio.ServicerContext, name: str) -> str | None:
    """The first value of a call's metadata under `name`."""
    for key, value in context.invocation_metadata() or ():
        if key == name:
            return value if isinstance(value, str) else value.decode(errors="replace")
    return None


def peer_host(peer: str) -> str:
    """The address in gRPC's name of a peer, such as `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]")


def peer_is_loopback(peer: str) -> bool:
    """Does a peer, by gRPC's name of it, call from this machine?"""
    if peer.startswith("unix:"):
        return True
    try:
        address = ipaddress.ip_address(peer_host(peer))
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def refuse_unknown(request: Message) -> None:
    """Raises InvalidRequest for fields that this version does not have, which would otherwise be ignored."""
    messages = [request, *(value for field, value in request.ListFields() if isinstance(value, Message))]
    for message in messages:
        for unknown in UnknownFieldSet(message):
            name = type(message).__name__
            raise InvalidRequest(name, f"field number {unknown.field_number}", f"fields of videogen.v1.{name}")
