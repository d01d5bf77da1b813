"""What the service's core hands to its faces: callers and what they see of their jobs."""

from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from videogen.models.spec import ModelSpec
from videogen.requests import Request
from videogen.store.records import RequestState, VideoRecord

T = TypeVar("T")
JobStatus = Literal["queued", "in_progress", "completed", "failed"]
CacheUse = Literal["hit", "joined", "miss"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `key_id` is None where no key was needed."""

    tenant: str
    key_id: str | None
    scopes: frozenset[Literal["user", "admin"]]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a video took: seconds of the device, US dollars where its price is known, and whether the work was new."""

    gpu_seconds: float
    cost_usd: float | None
    cache: CacheUse


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a request has no video: `code` for programs, `param` the field at fault."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """A request and what became of it. Times are Unix seconds; `progress` is in [0, 1]; `request` has every field."""

    id: str
    status: JobStatus
    state: RequestState
    request: Request
    model: str
    label: str
    version_digest: str
    progress: float
    created_at: float
    completed_at: float | None = None
    expires_at: float | None = None
    queue_position: int | None = None
    eta_seconds: float | None = None
    usage: Usage | None = None
    error: JobError | None = None
    remixed_from: str | None = None
    video: VideoRecord | None = None
    ungated: bool = False


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, in order; the id of the last asks for those after it."""

    data: tuple[T, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A version that is served. `created_at`: when it began to be, in Unix seconds."""

    name: str
    label: str
    version_digest: str
    spec: ModelSpec
    champion: bool
    ungated: bool
    created_at: float
