"""What goes wrong when the service is called, as the answer's details tell it.

* ServiceError
  + InvalidRequest: a field is not allowed
  + NotAuthenticated, PermissionDenied, NotFound, Conflict
  + Overloaded: too much work, or too many calls; says when to come again
  + Unavailable: no answer, or one that says so
  + DeadlineExceeded, Cancelled
  + ProtocolError: an answer that is no answer
* VideoFailed: the service answered, the video could not be made
"""

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

DETAILS = "grpc-status-details-bin"
"""The metadata in which an answer's google.rpc.Status travels."""


class ServiceError(Exception):
    """The root. `code` is gRPC's name of the status, such as `UNAVAILABLE`; `reason` the service's own."""

    def __init__(self, message: str, code: str = "UNKNOWN", reason: str = "") -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class InvalidRequest(ServiceError):
    """A field is not allowed. `field`, `given` and `allowed` are empty where the service did not name one."""

    field = given = allowed = ""


class NotAuthenticated(ServiceError):
    """The service wants an API key, or another one."""


class PermissionDenied(ServiceError):
    """The API key does not allow this."""


class NotFound(ServiceError):
    """There is nothing of that id, or it is another tenant's."""


class Conflict(ServiceError):
    """It stands otherwise than the call supposed."""


class Overloaded(ServiceError):
    """Too much work or too many calls. `retry_after_s`: seconds, None if the service did not say."""

    retry_after_s: float | None = None


class Unavailable(ServiceError):
    """The service could not be reached, or cannot answer now."""


class DeadlineExceeded(ServiceError):
    """The time for the call was over."""


class Cancelled(ServiceError):
    """The call was cancelled."""


class ProtocolError(ServiceError):
    """The service answered otherwise than its interface says."""


class VideoFailed(Exception):
    """The request `job_id` ended without a video. `code`: such as `generation_failed` or `cancelled`."""

    def __init__(self, job_id: str, code: str, message: str) -> None:
        super().__init__(f"{job_id}: {message}")
        self.job_id, self.code = job_id, code


KINDS: dict[grpc.StatusCode, type[ServiceError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Overloaded,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
    grpc.StatusCode.CANCELLED: Cancelled,
}


def from_rpc(error: Any) -> ServiceError:
    """The typed error of a failed call: of a grpc.RpcError, sync or async."""
    code = error.code()
    made = KINDS.get(code, ServiceError)(error.details() or code.name, code.name)
    trailing: dict[str, str | bytes] = dict(error.trailing_metadata() or ())
    for detail in _details(trailing.get(DETAILS, b"")):
        if isinstance(detail, error_details_pb2.ErrorInfo):
            made.reason = detail.reason
            if isinstance(made, InvalidRequest):
                said = detail.metadata
                made.field, made.given, made.allowed = (said.get(name, "") for name in ("field", "given", "allowed"))
        elif isinstance(made, Overloaded):
            made.retry_after_s = detail.retry_delay.ToTimedelta().total_seconds()
    return made


def _details(packed: str | bytes) -> list[error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo]:
    try:
        status = status_pb2.Status.FromString(packed if isinstance(packed, bytes) else packed.encode())
    except DecodeError:
        return []
    found = []
    for kind in (error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo):
        for any_of in status.details:
            detail = kind()
            if any_of.Is(kind.DESCRIPTOR) and any_of.Unpack(detail):
                found.append(detail)
    return found
