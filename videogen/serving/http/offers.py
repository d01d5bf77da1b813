"""What is served: `/v1/models`. What is not: the parts of OpenAI's API that no model here can do."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from videogen.serving.http import schemas
from videogen.serving.http.answers import Answer, Refused
from videogen.serving.http.callers import Known
from videogen.serving.jobs import ModelInfo

models = APIRouter(prefix="/v1/models", tags=["models"], responses=schemas.REFUSALS)
unsupported = APIRouter(prefix="/v1/videos", tags=["not supported yet"], responses=schemas.REFUSALS)
NOT_YET: dict[int | str, dict[str, Any]] = {
    400: {"model": schemas.Refusal, "description": "No model served here can do it."}
}


def chosen(served: Sequence[ModelInfo], wanted: object) -> ModelInfo | None:
    """What a request that names `wanted` is for; if it names nothing, the champion, or the first that is served."""
    if wanted is None:
        return next((info for info in served if info.champion), served[0] if served else None)
    return next((info for info in served if wanted in (info.name, info.label, f"{info.name}@champion")), None)


@models.get("", response_model=schemas.ModelList)
async def list_models(request: Request, caller: Known) -> Response:
    """The model versions that are served, with what they can make; first the one that a bare name means."""
    served = await request.app.state.service.models(caller)
    return Answer({"object": "list", "data": [_model(info) for info in served]})


@models.get("/{model}", response_model=schemas.Model)
async def retrieve_model(request: Request, model: Annotated[str, Path(max_length=128)], caller: Known) -> Response:
    """One of them, by its name with or without its version."""
    served = await request.app.state.service.models(caller)
    for info in served:
        if model in (info.label, info.name):
            return Answer(_model(info))
    names = " or ".join(info.label for info in served) or "none is served just now"
    raise Refused(404, "model_not_found", f"model: got {model!r}; allowed: {names}", "model")


def _model(info: ModelInfo) -> dict[str, Any]:
    return {
        "id": info.label,
        "object": "model",
        "created": int(info.created_at),
        "owned_by": "videogen",
        "model_version": info.version_digest,
        "champion": info.champion,
        "ungated": info.ungated,
        "limits": dataclasses.asdict(info.spec),
    }


@unsupported.post("/edits", responses=NOT_YET)
@unsupported.post("/extensions", responses=NOT_YET)
@unsupported.post("/characters", responses=NOT_YET)
@unsupported.get("/characters/{character_id}", responses=NOT_YET)
async def not_supported(request: Request, caller: Known) -> Response:
    """No model served here takes a video or a character as input."""
    what = request.url.path.split("/")[3]
    raise Refused(400, "unsupported_capability", f"{what}: no model served here can do this; /v1/models has what can")
