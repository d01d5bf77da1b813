"""Whether the process lives, whether it may get requests, and its metrics."""

import asyncio
from collections.abc import Callable

from fastapi import APIRouter, Request
from starlette.responses import Response

from videogen.serving.http.answers import Answer

router = APIRouter(tags=["operation"])
Exposition = Callable[[], tuple[bytes, str]]
"""Gives the metrics as text and its media type; it may ask the store, so it is called in a thread."""


@router.get("/healthz", responses={503: {"description": "It should be restarted."}})
async def healthz(request: Request) -> Response:
    """200 as long as the process can do any good; away stores and engines pass, and are `/readyz`'s."""
    now = request.app.state.service.readiness
    return Answer({"live": now.live} | ({} if now.live else {"reasons": now.reasons}), 200 if now.live else 503)


@router.get("/readyz", responses={503: {"description": "Not now; `reasons` says why."}})
async def readyz(request: Request) -> Response:
    """200 when a model is loaded and warm and requests are taken; `warnings` tells what is amiss all the same."""
    now = request.app.state.service.readiness
    told = {"ready": now.ready, "reasons": now.reasons}
    return Answer(told | ({"warnings": now.warnings} if now.warnings else {}), 200 if now.ready else 503)


class Metrics:
    """One look for all who ask while it lasts: it may read much of the store, and needs no key."""

    def __init__(self, expose: Exposition) -> None:
        self._expose = expose
        self._look: asyncio.Future[tuple[bytes, str]] | None = None

    async def look(self) -> tuple[bytes, str]:
        if self._look is None or self._look.done():
            self._look = asyncio.ensure_future(asyncio.to_thread(self._expose))
        return await asyncio.shield(self._look)


@router.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus series."""
    text, media_type = await request.app.state.metrics.look()
    return Response(text, headers={"Content-Type": media_type})
