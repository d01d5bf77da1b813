"""What the service's core hands to its faces: who calls, a job as it stands, what it cost, what is served."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeAlias, TypeVar

from videogen.models.spec import ModelSpec
from videogen.requests import Change, Request
from videogen.store.api_keys import Scope
from videogen.store.records import RequestState, VideoRecord

T = TypeVar("T")
JobStatus: TypeAlias = Literal["queued", "in_progress", "completed", "failed"]
CacheUse: TypeAlias = Literal["hit", "joined", "miss"]

STATUS: Mapping[RequestState, JobStatus] = {
    "queued": "queued",
    "assigned": "queued",
    "running": "in_progress",
    "done": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "expired": "failed",
}
"""A request's state in the store -> the four of OpenAI's video API, which its client's polling knows."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: `key_id` is None where no key was needed."""

    tenant: str
    key_id: str | None
    scopes: frozenset[Scope]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job took of the device: `gpu_seconds` is its share of the calls it was in, `cost_usd` None unpriced.

    `cache`: its video was there ("hit"), was being made for another ("joined"), or was made for it ("miss").
    """

    gpu_seconds: float
    cost_usd: float | None
    cache: CacheUse


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a job failed; `param` is the request's field at fault, if one is."""

    code: str
    message: str
    param: str | None = None


@dataclass(frozen=True, slots=True)
class VideoJob:
    """One request as it stands. `progress` in [0, 1]; `created_at`, `completed_at`, `expires_at` in Unix seconds.

    `request` has every field filled. `queue_position` and `eta_seconds` are estimates, None once it has ended.
    """

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
    changes: tuple[Change, ...] = ()
    """What was asked otherwise while it was made, each from its step on; `request` is what the first step went by."""

    @property
    def has_ended(self) -> bool:
        return self.status in ("completed", "failed")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A version that is served and what may be asked of it. One that is `ungated` has not passed its gates."""

    name: str
    label: str
    version_digest: str
    champion: bool
    ungated: bool
    created_at: float
    """Unix seconds at which this service began to serve it."""
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Content:
    """A finished video's bytes. `digest` is the sha256 of the whole, `size` in bytes."""

    digest: str
    size: int
    read: Callable[[int, int], AsyncIterator[bytes]]

    def stream(self, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `stop` in pieces, read as they are taken. Raises RecordDamaged meanwhile."""
        return self.read(start, self.size if stop is None else stop)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some of a list, in order; the id of the last asks for those after it. `is_cut`: older ones are not listed."""

    data: tuple[T, ...]
    has_more: bool
    is_cut: bool = False
