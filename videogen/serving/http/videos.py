"""`/v1/videos` as the openai package calls it, and what goes beyond it: cancel, sync, events."""

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response, StreamingResponse

from videogen.errors import InvalidRequest
from videogen.serving.http import content as contents
from videogen.serving.http import schemas
from videogen.serving.http.answers import Answer, Refused
from videogen.serving.http.bodies import read_fields
from videogen.serving.http.callers import Cancelling, Known, Reading
from videogen.serving.http.dialect import MAX_WARNINGS, Asked, translate
from videogen.serving.http.ended import ended
from videogen.serving.http.events import events
from videogen.serving.http.offers import chosen
from videogen.serving.http.shapes import video
from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.limits import Limits
from videogen.serving.service import Service

router = APIRouter(prefix="/v1/videos", tags=["videos"], responses=schemas.REFUSALS)
POLL_MS = 500
STATUS_OF_FAILURE = 422
"""Of `/sync` when the job was accepted and then failed: neither the body nor the server is at fault as such."""
VideoId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="As the answer to its creation says.")]
Shape = dict[str, Any]


def _body(shape: type[schemas.Shape]) -> Shape:
    schema = {"schema": shape.model_json_schema()}
    content = {"application/json": schema, "multipart/form-data": schema}
    return {"requestBody": {"required": True, "content": content}}


def service_of(request: Request) -> Service:
    return request.app.state.service


async def _asked(request: Request, caller: Caller) -> Asked:
    given = await read_fields(request)
    asked = translate(given, chosen(await service_of(request).models(caller), given.get("model")))
    if isinstance(prompt := asked.fields.get("prompt"), str):
        request.app.state.limits.check_prompt(prompt)
    return asked


async def _submit(request: Request, asked: Asked, caller: Caller) -> VideoJob:
    key = request.headers.get("idempotency-key")
    await _take(request, caller)
    if asked.webhook_url is not None:  # its name is looked up
        await request.app.state.webhooks.check(asked.webhook_url, caller)
    return await service_of(request).submit(asked.fields, caller, key, asked.webhook_url, asked.session)


def _hold(request: Request, caller: Caller) -> contents.Hold:
    limits: Limits = request.app.state.limits
    return partial(limits.stream, caller)


async def _take(request: Request, caller: Caller) -> None:
    """Takes one request out of the caller's rate; what is left of it goes into the answer's headers."""
    request.state.allowance = (await request.app.state.limits.take(caller)).headers()


async def _prompt(request: Request) -> tuple[str, tuple[str, ...]]:
    """A remix's prompt, and warnings of what is asked for beside it."""
    fields = await read_fields(request)
    given = fields.pop("prompt", None)
    if not isinstance(given, str):
        raise InvalidRequest("prompt", given, "text")
    request.app.state.limits.check_prompt(given)
    return given, tuple(f"{name[:64]}: a remix changes the prompt only, ignored" for name in fields)[:MAX_WARNINGS]


@router.post("", response_model=schemas.Video, openapi_extra=_body(schemas.CreateVideo))
async def create(request: Request, caller: Known) -> Response:
    """Asks for a video.

    The answer comes as soon as the request is recorded; then ask for it by its id, or watch its events. The same
    request twice is answered from the cache, or joins the one that runs. With the header `Idempotency-Key`, sending it
    again is the same job.
    """
    asked = await _asked(request, caller)
    return _shown(await _submit(request, asked, caller), asked.warnings)


@router.post(
    "/sync",
    response_class=Response,
    responses={200: {"content": {"video/mp4": {}}, "description": "The MP4."}},
    openapi_extra=_body(schemas.CreateVideo),
)
async def create_sync(request: Request, caller: Known) -> Response:
    """Asks for a video and answers with its MP4.

    Who goes away cancels the job, unless an `Idempotency-Key` lets them come back for it.
    """
    asked = await _asked(request, caller)
    keep = "idempotency-key" in request.headers
    with request.app.state.limits.stream(caller):
        job = await _submit(request, asked, caller)
        job = await ended(service_of(request), job, caller, None if keep else request.receive)
    if job.status == "failed":
        error = video(job)["error"]
        raise Refused(STATUS_OF_FAILURE, error["code"], error["message"], error["param"])
    found = service_of(request).contents.of(job)
    headers = {"ETag": f'"{found.digest}"', "Content-Length": str(found.size), "X-Video-Id": job.id}
    return await contents.mp4(found, headers, _hold(request, caller))


@router.get("", response_model=schemas.VideoList)
async def list_videos(
    request: Request,
    caller: Reading,
    after: Annotated[str | None, Query(max_length=64, description="The last id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Annotated[Literal["asc", "desc"], Query(description="By creation.")] = "desc",
) -> Response:
    """The caller's videos, a page at a time."""
    page = await service_of(request).list(caller, after=after, limit=limit, order=order)
    shown = [video(job) for job in page.data]
    first, last = (shown[0]["id"], shown[-1]["id"]) if shown else (None, None)
    told = {"object": "list", "data": shown, "first_id": first, "last_id": last, "has_more": page.has_more}
    return Answer(told | {"cut": page.is_cut})


@router.get("/{video_id}", response_model=schemas.Video)
async def retrieve(request: Request, video_id: VideoId, caller: Reading) -> Response:
    """A video as it is now: status, progress, place in the queue, expected seconds."""
    return _shown(await service_of(request).get(video_id, caller))


@router.delete("/{video_id}", response_model=schemas.VideoDeleted)
async def delete(request: Request, video_id: VideoId, caller: Cancelling) -> Response:
    """Forgets a video; one that is not finished is cancelled first."""
    await service_of(request).delete(video_id, caller)
    return Answer({"id": video_id, "object": "video.deleted", "deleted": True})


@router.post("/{video_id}/cancel", response_model=schemas.Video)
async def cancel(request: Request, video_id: VideoId, caller: Cancelling) -> Response:
    """Stops a job: `status` is then failed, `error.code` cancelled. One that has ended stays as it is."""
    return _shown(await service_of(request).cancel(video_id, caller))


@router.post("/{video_id}/change", response_model=schemas.Video, openapi_extra=_body(schemas.ChangeVideo))
async def change(request: Request, video_id: VideoId, caller: Known) -> Response:
    """Changes a job that has not ended: another prompt or guidance from its next step on, or when it is made.

    The video is then its own: who asked for the same keeps theirs, and no cache answers with it. `changes` tells from
    which step on. Size, length, steps, seed and model stay.
    """
    fields = await read_fields(request)
    if isinstance(prompt := fields.get("prompt"), str):
        request.app.state.limits.check_prompt(prompt)
    await _take(request, caller)
    return _shown(await service_of(request).change(video_id, fields, caller))


@router.post("/{video_id}/remix", response_model=schemas.Video, openapi_extra=_body(schemas.RemixVideo))
async def remix(request: Request, video_id: VideoId, caller: Known) -> Response:
    """Makes a video anew with another prompt; its seed and its parameters stay."""
    prompt, warnings = await _prompt(request)
    await _take(request, caller)
    return _shown(await service_of(request).remix(video_id, prompt, caller), warnings)


@router.get(
    "/{video_id}/content",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {}, "image/webp": {}, "image/jpeg": {}}, "description": "All of it."},
        206: {"content": {"video/mp4": {}}, "description": "The range that was asked for."},
    },
)
@router.head("/{video_id}/content", include_in_schema=False)
async def content(
    request: Request,
    video_id: VideoId,
    caller: Reading,
    variant: Annotated[Literal["video", "thumbnail", "spritesheet"], Query()] = "video",
) -> Response:
    """The MP4 (with ranges, and its sha256 as ETag), a WebP thumbnail, or a JPEG sheet of its frames."""
    found = await contents.content_of(service_of(request), video_id, caller)
    if variant == "video":
        return await contents.video(request, found, video_id, _hold(request, caller))
    return await contents.picture(request, found, variant, request.app.state.previews)


@router.get(
    "/{video_id}/events",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {}}, "description": "Events until the job ends."}},
)
async def watch_events(request: Request, video_id: VideoId, caller: Reading) -> Response:
    """Server-sent events: the video now, at every change, and at its end."""
    service, hold = service_of(request), _hold(request, caller)
    await service.get(video_id, caller)
    with hold():
        pass
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    pieces = contents.held(events(service.watch(video_id, caller)), hold)
    return StreamingResponse(pieces, headers=headers, media_type="text/event-stream")


def _shown(job: VideoJob, warnings: tuple[str, ...] = ()) -> Answer:
    headers = {} if job.has_ended else {"openai-poll-after-ms": str(POLL_MS)}
    return Answer(video(job, warnings), headers=headers)
