"""The HTTP face: an application over the service's core, which knows nothing of HTTP."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from videogen.errors import VideogenError
from videogen.serving.access import Access
from videogen.serving.http import answers, health, misfits, offers, videos
from videogen.serving.http.page import page
from videogen.serving.http.previews import Previews
from videogen.serving.limits import Limits
from videogen.serving.service import Service
from videogen.serving.webhooks import WebhookSender

DESCRIPTION = """Videos from text, over the API that the openai package speaks, and more.

Ask with POST /v1/videos, look with GET /v1/videos/{video_id} or follow its events, then read its content. What
a request leaves open is the model's own; what a model cannot do is refused with what it can. Every refusal is an object
`error` with message, type, param and code."""


def create_app(
    service: Service, access: Access, limits: Limits, webhooks: WebhookSender, metrics: health.Exposition
) -> FastAPI:
    """The application, for uvicorn. `webhooks` is started and stopped by whoever made it."""
    untold = TelemetryConfig(tracing=False, metrics=False, logs=False)  # the core's observers tell
    app = FastAPI(
        title="videogen", version="1", description=DESCRIPTION, docs_url=None, redoc_url=None, telemetry=untold
    )
    app.state.service, app.state.access, app.state.limits = service, access, limits
    app.state.webhooks, app.state.metrics, app.state.previews = webhooks, health.Metrics(metrics), Previews()
    for router in (videos.router, offers.unsupported, offers.models, health.router):
        app.router.routes.extend(router.routes)  # as they are: a router that is included looks at all of them twice
    app.add_exception_handler(VideogenError, answers.on_error)
    app.add_exception_handler(RequestValidationError, misfits.on_parameters)
    app.add_exception_handler(HTTPException, misfits.on_http)
    app.add_exception_handler(ClientDisconnect, _on_gone)
    app.add_exception_handler(Exception, _on_fault)
    app.add_api_route("/docs", _docs, include_in_schema=False)
    app.add_api_route("/", _root, include_in_schema=False)
    return app


async def _root() -> Response:
    return RedirectResponse("/docs")


async def _docs(request: Request) -> Response:
    return HTMLResponse(page(request.app.openapi()))


async def _on_gone(_: Request, __: Exception) -> Response:
    return answers.refusal(499, "client_gone", "the client went away")


async def _on_fault(_: Request, __: Exception) -> Response:
    """A fault of ours, which the server logs: its text is not the client's."""
    return answers.refusal(500, "internal_error", "the service failed; its log says why")
