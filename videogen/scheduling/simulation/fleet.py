"""What is simulated: devices, the store that they share, and what surrounds the steps."""

import math
from dataclasses import dataclass, field

from videogen.scheduling.arrivals import Kind
from videogen.scheduling.costs import Costs
from videogen.scheduling.policy import Policy

AHEAD_S, MOST_AHEAD = 1.5, 64
"""What a replica claims ahead, as `videogen serve` does: so many seconds of work, two full batches for each stream at
least, and no more than so many jobs."""


@dataclass(frozen=True, slots=True)
class StoreCosts:
    """The queue that all devices share: each video that is claimed keeps it busy 1 / `videos_per_s`, one by one;
    a claim of up to `claim_most` is answered `claim_s` later; a video that is there is given in `cached_s`.
    """

    videos_per_s: float = math.inf
    claim_s: float = 0.0
    claim_most: int = 16
    cached_s: float = 0.0


@dataclass(frozen=True, slots=True)
class FrontCosts:
    """The process before each device that talks to callers and to the store. It does one thing at a time, in order.

    A request keeps it busy `accept_s` before it is in the queue. Videos whose steps end together are answered together,
    each of which keeps it busy `answer_s`; their callers have them `way_s` after that.
    """

    accept_s: float = 0.0
    answer_s: float = 0.0
    way_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fleet:
    """`devices` alike. A device claims until it has `window` jobs (as a replica of the service does, if None).

    A step boundary takes its device `boundary_s` beside the step. A request is refused that would wait more than
    `queue_s` by the work that waits already. Idle devices claim first, then the one that asked first.
    """

    costs: Costs
    devices: int = 1
    streams: int = 1
    policy: Policy = field(default_factory=Policy)
    hold: bool = True
    store: StoreCosts = field(default_factory=StoreCosts)
    front: FrontCosts = field(default_factory=FrontCosts)
    window: int | None = None
    boundary_s: float = 0.0
    queue_s: float = math.inf

    def most(self, kind: Kind) -> int:
        """The largest batch."""
        measured = self.costs.batch_max(kind.key)
        return min(measured, self.policy.batch_max or measured)

    def ahead(self, kind: Kind) -> int:
        """How many jobs a device may have."""
        least = 2 * self.most(kind) * self.streams
        return self.window or min(max(least, math.ceil(AHEAD_S * capacity(self, kind))), MOST_AHEAD)


def capacity(fleet: Fleet, kind: Kind) -> float:
    """Videos a second of one device that always has enough of them, at the batch and streams that give most."""
    return max(rate(fleet.costs, kind, batch, fleet.streams) for batch in range(1, fleet.most(kind) + 1))


def rate(costs: Costs, kind: Kind, batch: int, streams: int) -> float:
    """Videos a second of one device whose streams all run batches of this size."""
    seconds = kind.steps * costs.step(kind.key, batch, streams) + costs.rest(kind.key, batch, streams)
    return batch * streams / seconds
