"""A job on its way through the engine process, and what it is answered where it gets no video."""

import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from videogen.errors import InvalidRequest, VideogenError
from videogen.scheduling.job import Job
from videogen.serving.engine.messages import Answer, EngineJob, Failed

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest
    from videogen.serving.engine.versions import Version

MEMORY_SIGNS = ("out of memory", "bad_alloc", "failed to allocate")


@dataclass(slots=True, eq=False)
class AskedFork:
    """What a job is until it begins that is to take over the latents of `source`, with `fields` changed.

    `call` is answered once it has them.
    """

    call: int
    source: "Live"
    fields: Mapping[str, str | float]
    is_answered: bool = False


@dataclass(slots=True, eq=False)
class Live:
    """A job on its way through text, steps, decoding and MP4; `seconds` of each, `batches` it stepped in.

    `forks` wait for its next boundary, to take over its latents.
    """

    job: EngineJob
    accepted: "AcceptedRequest"
    version: "Version"
    key: Hashable
    received: float
    deadline: float | None
    generation: Any = None
    scheduled: Job | None = None
    frames: Any = None
    cancelled: bool = False
    fused: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    batches: dict[int, int] = field(default_factory=dict)
    forking: AskedFork | None = None
    forks: "list[Live]" = field(default_factory=list)

    @property
    def step(self) -> int:
        """How many steps it has taken."""
        return self.generation.step_index if self.generation is not None else 0

    @property
    def is_between_steps(self) -> bool:
        """Does it have latents that no step is changing?"""
        return self.generation is not None and (self.scheduled is None or not self.scheduled.busy)

    @property
    def to_read(self) -> "AcceptedRequest":
        """What texts are encoded of it: a fork's with what is changed, from which step on is not known yet."""
        return self.accepted if self.forking is None else self.accepted.changed(0, self.forking.fields)

    def charge(self, other: "Live") -> None:
        """What the other one took was for this one."""
        for stage, seconds in other.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        for size, steps in other.batches.items():
            self.batches[size] = self.batches.get(size, 0) + steps

    def facts(self, streams: int) -> dict[str, Any]:
        """What is told of how its video was made. A stream's second is a share of the device's."""
        on_device = sum(self.seconds.get(stage, 0.0) for stage in ("text", "denoise", "decode"))
        made = sum(self.seconds.values())
        return {
            **self.version.facts,
            "seconds": self.seconds,
            "waited_s": max(0.0, time.monotonic() - self.received - made),
            "device_seconds": on_device / streams,
            "batches": {str(size): steps for size, steps in self.batches.items()},
            "fused": self.fused,
        }

    def spent(self, stage: str, seconds: float, among: int) -> None:
        """Its share of `seconds` that it spent in a batch of `among`."""
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds / among


def failure(job_id: str, error: Exception) -> Failed:
    """What a job that failed with `error` is answered."""
    text = str(error) if isinstance(error, VideogenError) else f"{type(error).__name__}: {error}"
    if isinstance(error, InvalidRequest):
        return Failed(job_id, text, "invalid_request", retry=False)
    if isinstance(error, MemoryError) or any(sign in text.lower() for sign in MEMORY_SIGNS):
        return Failed(job_id, text, "out_of_memory", retry=True)
    return Failed(job_id, text, "generation_failed", retry=True)


def refusal(call: int, failed: Failed) -> Answer:
    """To a fork that cannot be made: asked again, it may be, unless it is at fault itself."""
    return Answer(call, error=failed.error, unavailable=failed.retry)


def cancelled(live: Live) -> Failed:
    """What a job is answered that was cancelled."""
    return Failed(live.job.id, "it was cancelled", "cancelled", retry=False)
