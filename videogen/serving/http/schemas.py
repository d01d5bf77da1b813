"""The shapes of requests and answers for the OpenAPI page; what is answered is built in `shapes`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from videogen.requests import MAX_PROMPT_CHARACTERS, Priority


class Shape(BaseModel):
    model_config = ConfigDict(protected_namespaces=())


class CreateVideo(Shape):
    """A wish for one video. Fields that this service does not know are ignored, and named in `warnings`."""

    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS, examples=["a red ball moves left over a dark background"])
    model: str | None = Field(None, description="NAME, NAME@VERSION or NAME@champion; see /v1/models.")
    seconds: str | float | None = Field(None, description="Length; the model's own if absent.", examples=["2"])
    size: str | None = Field(None, description="WIDTHxHEIGHT; the model's own if absent.", examples=["64x64"])
    seed: int | None = Field(None, description="The same seed and parameters give the same video.")
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_frames: int | None = None
    fps: int | None = None
    priority: Priority | None = None
    deadline: float | None = Field(None, description="Seconds; refused at once (429) if it cannot be met.")
    metadata: dict[str, str | bool | int | float | None] | None = None
    webhook_url: str | None = Field(None, description="Called when the video is completed or failed.")
    session: str | None = Field(None, description="Whose defaults fill what is absent here, and which lists the video.")


class RemixVideo(Shape):
    """A new prompt for a video whose seed and parameters are kept."""

    prompt: str = Field(max_length=MAX_PROMPT_CHARACTERS, examples=["a blue ball moves left over a dark background"])


class ChangeVideo(Shape):
    """What is to be otherwise. What is absent stays; the first three hold from the next denoising step on."""

    prompt: str | None = Field(None, max_length=MAX_PROMPT_CHARACTERS, examples=["a blue ball moves left"])
    negative_prompt: str | None = None
    guidance_scale: float | None = None
    priority: Priority | None = None
    deadline: float | None = Field(None, description="Seconds after acceptance.")


class ParameterChange(Shape):
    """What was asked otherwise while a video was made, and kept the rest."""

    step: int = Field(description="The first denoising step that went by it, from 0.")
    prompt: str | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = None


class VideoError(Shape):
    code: str
    message: str
    param: str | None = None


class VideoUsage(Shape):
    gpu_seconds: float = Field(description="Of the device, this video's share of its batches.")
    cost_usd: float | None = Field(description="By the configured price; null without one.")
    cache: Literal["hit", "joined", "miss"]


class Video(Shape):
    """A video and the job that makes it."""

    id: str
    object: Literal["video"]
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(description="0 to 100, by denoising steps done.")
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str
    size: str
    seconds: str
    remixed_from_video_id: str | None = None
    error: VideoError | None = None
    cancelled: bool = False
    queue_position: int | None = None
    eta_seconds: float | None = None
    usage: VideoUsage | None = None
    model_version: str = Field(description="sha256 of the version's manifest.")
    ungated: bool = Field(False, description="Made by a version that has not passed its gates.")
    changes: list[ParameterChange] = Field([], description="What was asked otherwise meanwhile, each from its step on.")
    parameters: dict[str, Any]
    metadata: dict[str, Any]
    warnings: list[str] = Field([], description="Fields that were ignored.")


class VideoList(Shape):
    object: Literal["list"]
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool
    cut: bool = Field(False, description="There may be older ones, which are not listed.")


class VideoDeleted(Shape):
    id: str
    object: Literal["video.deleted"]
    deleted: bool


class Model(Shape):
    """A model that is served, with what it can make."""

    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Shape):
    object: Literal["list"]
    data: list[Model]


class RefusalError(Shape):
    message: str
    type: str
    param: str | None
    code: str


class Refusal(Shape):
    """Why a request was refused: the field, what was given and what is allowed."""

    error: RefusalError


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Refusal, "description": "Not allowed: which field, what was given, what is allowed."},
    401: {"model": Refusal, "description": "No API key that is known."},
    404: {"model": Refusal, "description": "There is none, or it is another tenant's."},
    429: {"model": Refusal, "description": "Too much for now; Retry-After says when."},
    503: {"model": Refusal, "description": "The store or the engine cannot be reached; Retry-After says when."},
}
"""Of every route, for the OpenAPI page."""
