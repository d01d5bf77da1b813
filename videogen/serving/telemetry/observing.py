"""What the service tells of itself while it works, and to whom: metrics, traces, or nobody.

An observer's methods are called on the event loop, so each returns at once and raises nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from videogen.errors import InvalidRequest, Overloaded, VideogenError
from videogen.requests import Priority
from videogen.serving.jobs import CacheUse

Outcome = Literal["completed", "failed", "cancelled", "expired"]
Refusal = Literal["invalid_request", "rate_limited", "overloaded"]
StageName = Literal["queue", "text", "step", "decode", "mp4", "publish"]


@dataclass(frozen=True, slots=True)
class Stage:
    """A part of a job's way: from `start` (unix seconds) for `seconds`; of steps, how many, at which batch sizes."""

    name: StageName
    start: float
    seconds: float
    steps: int = 0
    batches: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that was accepted; a cached one has ended with it."""

    job_id: str
    tenant: str
    model: str
    priority: Priority
    cache: CacheUse
    prompt: str = ""
    """For observers that were told to keep it."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended: times in unix seconds and seconds. `stages` in order, as far as this replica saw them.

    `traceparent` is what the caller sent, in W3C's form. `run_id` is of the Dagster run that made it, if one did.
    """

    job_id: str
    tenant: str
    model: str
    priority: Priority
    outcome: Outcome
    accepted_at: float
    ended_at: float
    first_step_s: float | None = None
    """From acceptance to the end of its first step."""
    gpu_seconds: float = 0.0
    stages: Sequence[Stage] = ()
    error: str | None = None
    traceparent: str | None = None
    run_id: str | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The engine as it is now. `waiting` by class; `work_s`: seconds of work that wait; `busy`: each stream's share;
    `held_s`: how long batches were held open for more since the last; `expected_per_s`: arrivals that are forecast.
    """

    waiting: Mapping[Priority, int] = field(default_factory=dict)
    running: int = 0
    work_s: float = 0.0
    busy: Sequence[float] = ()
    ready: bool = False
    held_s: float = 0.0
    expected_per_s: float = 0.0


def reason_of(error: VideogenError) -> Refusal | None:
    """Why a face refuses what raised this; None for what is no refusal, or was told by what limits the callers."""
    match error:
        case InvalidRequest():
            return "invalid_request"
        case Overloaded():
            return "overloaded"
    return None


class Observer:
    """Hears everything and does nothing: what is not of interest need not be overridden."""

    def submitted(self, job: Submitted) -> None:
        """A job was accepted."""

    def refused(self, why: Refusal) -> None:
        """A request was not."""

    def ended(self, job: Ended) -> None:
        """A job reached its end."""

    def stepped(self, batch: int, calls: int, seconds: float) -> None:
        """So many denoiser calls of `batch` jobs were made, in `seconds` each on average."""

    def claimed(self, jobs: int) -> None:
        """This replica took leases on so many generations."""

    def loaded(self, load: Load) -> None:
        """The engine told how it stands; about twice a second."""

    def restarted(self) -> None:
        """The engine's process died, and another one was started."""

    def swapped(self, succeeded: bool, seconds: float, longest_gap_s: float) -> None:
        """A version took another's place, or failed to: how long it took, and the longest time without a step."""


class Observers(Observer):
    """Tells several."""

    def __init__(self, *observers: Observer) -> None:
        self.observers = observers

    def add(self, observer: Observer) -> None:
        self.observers = (*self.observers, observer)

    def submitted(self, job: Submitted) -> None:
        for one in self.observers:
            one.submitted(job)

    def refused(self, why: Refusal) -> None:
        for one in self.observers:
            one.refused(why)

    def ended(self, job: Ended) -> None:
        for one in self.observers:
            one.ended(job)

    def stepped(self, batch: int, calls: int, seconds: float) -> None:
        for one in self.observers:
            one.stepped(batch, calls, seconds)

    def claimed(self, jobs: int) -> None:
        for one in self.observers:
            one.claimed(jobs)

    def loaded(self, load: Load) -> None:
        for one in self.observers:
            one.loaded(load)

    def restarted(self) -> None:
        for one in self.observers:
            one.restarted()

    def swapped(self, succeeded: bool, seconds: float, longest_gap_s: float) -> None:
        for one in self.observers:
            one.swapped(succeeded, seconds, longest_gap_s)
