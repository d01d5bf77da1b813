"""Calls that fit no route: a path or a method that is not there, a parameter that its route does not take."""

from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from videogen.errors import InvalidRequest
from videogen.serving.http.answers import of_error, refusal


async def on_http(request: Request, error: Exception) -> Response:
    """The handler for the framework's own refusals."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:100]
    if error.status_code == 404:
        return refusal(404, "no_such_route", f"path: got {path!r}; allowed: what /docs lists", "path")
    if error.status_code == 405:
        allowed = ", ".join(_methods(request))
        told = f"method: got {request.method} for {path}; allowed: {allowed}"
        return refusal(405, "method_not_allowed", told, "method", {"allow": allowed})
    return refusal(error.status_code, "http_error", str(error.detail), headers=error.headers)


async def on_parameters(request: Request, error: Exception) -> Response:
    """The handler for a parameter in the path or the query that is not allowed."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = str(first["loc"][-1])
    request.app.state.service.observer.refused("invalid_request")
    return of_error(InvalidRequest(name, first["input"], _allowed(_schema(request, name))))


def _methods(request: Request) -> list[str]:
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = [route.methods or set() for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted(set[str]().union(*found))


def _schema(request: Request, name: str) -> Mapping[str, Any]:
    methods = request.app.openapi()["paths"][request.scope["route"].path]
    operation = methods.get(request.method.lower(), methods.get("get"))
    return next(one["schema"] for one in operation["parameters"] if one["name"] == name)


def _allowed(schema: Mapping[str, Any]) -> str:
    schema = schema["anyOf"][0] if "anyOf" in schema else schema
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    if "pattern" in schema:
        return f"a text that matches {schema['pattern']}"
    return f"a text of at most {schema['maxLength']} characters"
