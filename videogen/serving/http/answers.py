"""What every answer in JSON has in common, and how a refusal looks: OpenAI's error object, from our tree of errors."""

import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from videogen import errors
from videogen.errors import VideogenError
from videogen.serving.telemetry.observing import reason_of


class Answer(Response):
    """JSON in ASCII: a text that is no Unicode, given in a request, can be told all the same."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


class Refused(VideogenError):
    """An answer that is a refusal of HTTP's own, such as a body that is too large."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})


KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}
"""OpenAI's `type` by status; what is not named is the client's or the server's error."""
NOT_ALLOWED = (400, 408, 413)
"""Statuses of HTTP's own refusals of what was sent; others tell of a video."""


def refusal(
    status: int, code: str, message: str, param: str | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer in the shape that the openai package raises its exceptions from."""
    kind = KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    told = {"message": message, "type": kind, "param": param, "code": code}
    return Answer({"error": told}, status, headers)


def of_error(error: VideogenError) -> Answer:
    """How an error of ours is told over HTTP."""
    text = str(error)
    match error:
        case Refused():
            return refusal(error.status, error.code, text, error.param, error.headers)
        case errors.Overloaded():
            return refusal(429, "overloaded", text, headers=_retry(error.retry_after_s))
        case errors.Draining():
            return refusal(503, "draining", text, headers=_retry(1.0) | {"connection": "close"})
        case errors.RateLimited():
            return refusal(429, "rate_limit_exceeded", text, headers=error.headers | _retry(error.retry_after_s))
        case errors.Unauthenticated():
            return refusal(401, "invalid_api_key", text, headers={"WWW-Authenticate": "Bearer"})
        case errors.Forbidden():
            return refusal(403, "insufficient_permissions", text)
        case errors.InvalidRequest(field="model", given=str()):
            return refusal(404, "model_not_found", text, "model")
        case errors.InvalidRequest():
            return refusal(400, "invalid_value", text, error.field)
        case errors.SessionNotFound():
            return refusal(404, "session_not_found", text, "session")
        case errors.RecordExpired():
            return refusal(404, "video_expired", text)
        case errors.RecordNotFound():
            return refusal(404, "not_found", text)
        case errors.StoreConflict():
            return refusal(409, "conflict", text, headers={"x-should-retry": "false"})
        case errors.StoreBusy():
            return refusal(503, "overloaded", text, headers=_retry(1.0))
        case errors.StoreUnavailable():
            return refusal(503, "store_unavailable", text, headers=_retry(1.0))
        case errors.DeviceError() | errors.EngineUnavailable():
            return refusal(503, "engine_unavailable", text, headers=_retry(1.0))
    return refusal(500, "internal_error", text)


async def on_error(request: Request, error: Exception) -> Response:
    """The handler for our tree of errors: whatever is refused is counted here."""
    assert isinstance(error, VideogenError)
    is_ours = isinstance(error, Refused) and error.status in NOT_ALLOWED
    if (reason := "invalid_request" if is_ours else reason_of(error)) is not None:
        request.app.state.service.observer.refused(reason)
    return of_error(error)


def _retry(seconds: float) -> dict[str, str]:
    return {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(1000 * seconds)))}
