"""What this replica has taken from the queue, how much of it there may be, and how long it may take."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from videogen.client.results import News
from videogen.requests import AcceptedRequest
from videogen.scheduling.job import CLASSES, Priority
from videogen.serving.views import accepted_at
from videogen.store.records import Claim


@dataclass(frozen=True, slots=True)
class Making:
    """How much is taken from the queue ahead of the device, and how often things are looked at. Times in seconds."""

    ahead_s: float = 1.5
    """Work that is taken from the queue before the device is free for it: its scheduler chooses among it."""
    least_ahead: int = 8
    most_ahead: int = 64
    lease_s: float = 15.0
    poll_s: tuple[float, float] = (0.02, 0.25)
    """Between looks at a queue in which nothing was found, growing: other replicas' clients fill it too."""
    restart_s: tuple[float, float] = (0.2, 30.0)
    """Between a death of the engine process and its successor, growing while they die young without a video."""
    young_s: float = 60.0
    unserved_s: float = 300.0
    """How long a request waits for a version that no replica on the store serves before it fails."""


@dataclass(frozen=True, slots=True)
class Urgency:
    """When something is to be made. `due`: the deadline by the monotonic clock."""

    priority: Priority
    due: float | None

    def rises_with(self, priority: Priority, due: float | None, now: float) -> bool:
        """Is it another one once that is asked for too? A deadline that has passed gives way to whatever comes."""
        sooner = due is not None and now < due and (self.due is None or due < self.due)
        passed = self.due is not None and self.due <= now
        return CLASSES.index(priority) < CLASSES.index(self.priority) or sooner or passed


@dataclass(slots=True)
class InHand:
    """A claim that the engine has or will get, and what it told of it.

    A `lent` one is a run's, which hears of it and renews it. `is_given`: the engine process that is there has it.
    `waiting`: who is known to wait for it, if more is known than for whom it was claimed.
    """

    claim: Claim
    taken_at: float
    lent: Callable[[News], None] | None = None
    progress: float = 0.0
    first_step_at: float | None = None
    is_given: bool = False
    waiting: tuple[AcceptedRequest, ...] = ()
    urgency: "Urgency | None" = None
    """As the engine was told last, by this one's own word."""

    @property
    def asked(self) -> tuple[AcceptedRequest, ...]:
        """The requests that it is made for, as far as is known."""
        return self.waiting or (self.claim.request,)

    @property
    def priority(self) -> Priority:
        """That of the most urgent."""
        return min((one.request.priority for one in self.asked), key=CLASSES.index)


def left(accepted: AcceptedRequest) -> float | None:
    """Seconds until a request's deadline by this machine's clock, 0 if it has passed; None without one.

    The store's clock decides what has expired; this one says when to look.
    """
    deadline = accepted.request.deadline
    return None if deadline is None else min(deadline, max(0.0, accepted_at(accepted.id) + deadline - time.time()))
