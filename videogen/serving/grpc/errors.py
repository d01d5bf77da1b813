"""How an error of ours is told over gRPC: a status code, and google.rpc details for programs."""

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from videogen import errors
from videogen.errors import InvalidRequest, VideogenError

DOMAIN = "videogen"
LONGEST_TEXT = 1_000
"""Characters of a message: statuses travel in headers, which are bounded."""
RETRY_S = 1.0
"""When to come again, or to another replica, where nothing says how long it takes."""
Code = grpc.StatusCode


def status_of(error: VideogenError) -> status_pb2.Status:
    """The whole answer to a call that ended in `error`."""
    code, reason = _kind(error)
    said = {}
    details: list[Message] = []
    if isinstance(error, InvalidRequest):
        given = _short(repr(error.given))
        said = {"field": error.field, "given": given, "allowed": _short(error.allowed)}
        text = f"got {given}; allowed: {_short(error.allowed)}"
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=text, reason=reason)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    elif isinstance(error, errors.SessionNotFound):
        said = {"field": "session"}
    details.append(error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=said))
    if (seconds := _retry_after_s(error)) is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(1, round(1_000 * seconds)))
        details.append(retry)
    status = status_pb2.Status(code=code.value[0], message=_short(str(error)))
    for detail in details:
        status.details.add().Pack(detail)
    return status


async def abort(context: grpc.aio.ServicerContext, error: VideogenError) -> None:
    """Ends a call with `error`; raises, as every abort does."""
    told = rpc_status.to_status(status_of(error))
    left = error.headers if isinstance(error, errors.RateLimited) else dict(context.trailing_metadata() or ())
    await context.abort(told.code, told.details, (*told.trailing_metadata, *left.items()))


def _retry_after_s(error: VideogenError) -> float | None:
    if isinstance(error, errors.Overloaded | errors.RateLimited):
        return error.retry_after_s
    return RETRY_S if isinstance(error, errors.StoreUnavailable | errors.Draining) else None


def _kind(error: VideogenError) -> tuple[Code, str]:
    match error:
        case errors.InvalidRequest():
            return Code.INVALID_ARGUMENT, "INVALID_REQUEST"
        case errors.Unauthenticated():
            return Code.UNAUTHENTICATED, "UNAUTHENTICATED"
        case errors.Forbidden():
            return Code.PERMISSION_DENIED, "FORBIDDEN"
        case errors.Overloaded():
            return Code.RESOURCE_EXHAUSTED, "OVERLOADED"
        case errors.RateLimited():
            return Code.RESOURCE_EXHAUSTED, "RATE_LIMITED"
        case errors.RecordExpired():
            return Code.NOT_FOUND, "EXPIRED"
        case errors.RecordNotFound() | errors.VersionNotFound():
            return Code.NOT_FOUND, "NOT_FOUND"
        case errors.StoreConflict() | errors.LeaseLost():
            return Code.ABORTED, "CONFLICT"
        case errors.Draining():
            return Code.UNAVAILABLE, "DRAINING"
        case errors.StoreBusy():
            return Code.UNAVAILABLE, "OVERLOADED"
        case errors.StoreUnavailable():
            return Code.UNAVAILABLE, "STORE_UNAVAILABLE"
        case errors.DeviceError() | errors.EngineUnavailable():
            return Code.UNAVAILABLE, "ENGINE_UNAVAILABLE"
    return Code.INTERNAL, "INTERNAL"


def _short(text: str) -> str:
    """Text that fits, and that is Unicode: protobuf takes no lone surrogates."""
    text = text.encode(errors="backslashreplace").decode()
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
