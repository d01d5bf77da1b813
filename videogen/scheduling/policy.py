"""The bounds that the scheduler keeps, and who may have it wait for more work."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from videogen.scheduling.job import Priority

AGEING_S: Mapping[Priority, float] = MappingProxyType({"interactive": 10.0, "standard": 60.0, "batch": 600.0})


@dataclass(frozen=True, slots=True)
class Policy:
    """Every bound of the scheduler. Times are seconds."""

    ageing_s: Mapping[Priority, float] = field(default_factory=lambda: AGEING_S)
    """How long a job of each class may be passed over. From then on it leads every run until it ends, the one first
    that came of age first: nothing that comes of age after it leads before it."""
    stretch: float = 3.0
    """A job without a deadline should end within this many times what it takes alone on the device."""
    waste: float = 1.1
    """To keep the target of a job that has not started, batches may be so small that a step costs the device so
    many times what it does at best, a job. What cannot end in time even so goes last in its class."""
    waste_started: float = 1.25
    """As `waste`, for a job that has started: what was spent on it is lost if it ends too late."""
    backlog: float = 1.5
    """With so many full batches that wait, batches are made no smaller: more targets would be missed than kept."""
    fairness_s: float = 2.0
    """Inside a class, how much more of the device (seconds over weight) a tenant may get for its earlier targets than
    another that waits. Two that wait all the time stay within twice that and two runs of each other, but for what
    `paused_max` makes end first."""
    paused_max: int = 16
    """Started generations that others may have pushed off the device, latents kept. 0 is no preemption."""
    batch_max: int | None = None
    """The largest batch, where that is less than what was measured."""
    hold_max_s: float = 0.05
    """The longest that a batch is held open for more before a step."""
    fused_max_s: float = 0.1
    """The longest run of more than one step: how long an arrival may find no boundary."""


class Holding(Protocol):
    """Decides how long a batch that isn't full is held open for others to come; asked again when some came."""

    def seconds(
        self, key: Hashable, present: int, wanted: int, slack: float, now: float, *, started: bool = False
    ) -> float:
        """How long to hold `present` jobs where `wanted` would pay, the least slack among them given in seconds.

        `started`: some of them have steps. 0 or less is not to hold. The scheduler cuts the answer to the policy's
        bound and to the slack.
        """
        ...

    def arrived(self, key: Hashable, steps: int, now: float) -> None:
        """A job of `steps` was added."""
        ...

    def ended(self, key: Hashable, count: int, now: float) -> None:
        """So many jobs have all their steps."""
        ...
