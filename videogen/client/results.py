"""What the client hands out: jobs, videos, pages, models and sessions as frozen values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Status = Literal["queued", "in_progress", "completed", "failed"]
Priority = Literal["interactive", "standard", "batch"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a video took. `gpu_seconds` of the device; `cost_usd` is None where the device's price is not known."""

    gpu_seconds: float
    cost_usd: float | None
    cache: Literal["hit", "joined", "miss"] | None


@dataclass(frozen=True, slots=True)
class JobError:
    """Why a request has no video. `param` is the field at fault, None if none is."""

    code: str
    message: str
    param: str | None


@dataclass(frozen=True, slots=True)
class Job:
    """A request and what became of it. Times are Unix seconds; `progress` is in [0, 1].

    `spec` holds what was asked, every field filled, under the names that `submit` takes.
    """

    id: str
    status: Status
    state: str
    spec: Mapping[str, Any]
    model_version: str
    version_digest: str
    progress: float
    created_at: float
    completed_at: float | None
    expires_at: float | None
    queue_position: int | None
    eta_seconds: float | None
    usage: Usage | None
    error: JobError | None
    remixed_from: str | None
    video_digest: str | None
    video_size: int | None
    provenance: Mapping[str, Any]
    ungated: bool
    changes: tuple[Mapping[str, Any], ...] = ()
    """What was asked otherwise meanwhile: the first `step` that went by it, and the fields."""

    @property
    def is_live(self) -> bool:
        return self.status in ("queued", "in_progress")


OnProgress = Callable[[Job], object]


@dataclass(frozen=True, slots=True)
class Video:
    """A finished video: its MP4, and the job that made it."""

    job: Job
    data: bytes

    def save(self, path: Path | str) -> Path:
        """Writes the MP4."""
        path = Path(path)
        path.write_bytes(self.data)
        return path


@dataclass(frozen=True, slots=True)
class Page:
    """Some of a caller's jobs. `next_page_token` asks for the next ones, None if there are none.

    `is_cut`: there may be older ones, which are not listed.
    """

    jobs: tuple[Job, ...]
    next_page_token: str | None
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Model:
    """A version that is served. `defaults`: what an absent field stands for; `limits`: what a field may say."""

    name: str
    version: str
    version_digest: str
    ungated: bool
    created_at: float
    defaults: Mapping[str, Any]
    limits: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Session:
    """A client's defaults, what it edits, and the ids of the jobs that named it last, newest first."""

    id: str
    revision: int
    defaults: Mapping[str, Any]
    edit_state: Json
    videos: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease that the caller holds, as the store gave it out; `request_id` is one that waits for its generation."""

    request_id: str
    generation: str
    token: str
    attempt: int
    holder: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class Executing:
    """A claim is being worked on. `progress` is in [0, 1]."""

    generation: str
    progress: float


@dataclass(frozen=True, slots=True)
class Executed:
    """A claim's video is published under `digest`."""

    generation: str
    digest: str


HANDED_BACK = "handed_back"
"""The code of a claim that was not begun, or not in earnest: the service does not make it, and it counts no attempt."""


@dataclass(frozen=True, slots=True)
class ExecuteFailed:
    """A claim gave no video, and the store was told nothing. `retry`: another attempt may do better."""

    generation: str
    code: str
    message: str
    retry: bool


News = Executing | Executed | ExecuteFailed
