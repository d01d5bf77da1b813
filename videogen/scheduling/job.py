"""What the scheduler knows of one generation."""

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Priority: TypeAlias = Literal["interactive", "standard", "batch"]
CLASSES: tuple[Priority, ...] = ("interactive", "standard", "batch")
"""The most urgent first."""
_RANKS = {name: 2 * number for number, name in enumerate(CLASSES)}


@dataclass(slots=True, eq=False)
class Job:
    """One generation; the scheduler's own from `Scheduler.add` on. Times are seconds on the caller's clock."""

    id: str
    key: Hashable
    """Jobs with equal keys may share a denoiser call."""
    steps: int
    tenant: str = "default"
    priority: Priority = "standard"
    arrived: float = 0.0
    deadline: float | None = None
    weight: float = 1.0
    """The tenant's share of the device, against that of others."""
    steps_done: int = 0
    is_new: bool = True
    """False for one that was here before, as it was asked first: nobody new has come with it."""

    target: float = field(default=0.0, init=False)
    """When it should end: its deadline, or what the policy grants a job without one."""
    aged_at: float = field(default=0.0, init=False)
    """From then on it goes before whatever has waited less."""
    late: bool = field(default=False, init=False)
    """It can't end by its target any more."""
    rank: int = field(default=0, init=False)
    """Its class, and whether it is late: two ranks a class, the smaller goes first."""
    batch_most: int | None = field(default=None, init=False)
    """The largest batch in which it would end by its deadline, if it started as it came."""
    busy: bool = field(default=False, init=False)
    cancelled: bool = field(default=False, init=False)
    order: int = field(default=0, init=False)
    """Its place among all that were added: breaks ties."""
    entry: tuple[float, int, "Job"] = field(init=False, repr=False)
    """(target, order, itself): how lines sort it."""

    @property
    def remaining(self) -> int:
        return self.steps - self.steps_done

    def set_late(self, late: bool) -> None:
        """Sets its rank by that, and by its class."""
        self.late, self.rank = late, _RANKS[self.priority] + late
