"""Until when a batch is held open for more, within the policy's bound and what its jobs can wait."""

from collections.abc import Hashable
from dataclasses import dataclass

from videogen.scheduling.batches import Batches
from videogen.scheduling.job import Job
from videogen.scheduling.live import LiveJobs
from videogen.scheduling.policy import Holding

AGAIN_S = 0.001
"""What a batch whose hold is over must be worth to be held again: it is looked at no more often than that."""


@dataclass(frozen=True, slots=True)
class _Held:
    """A batch that is held `until` then, and `bound` at most; `present` wait."""

    bound: float
    present: int
    until: float


class Holds:
    """Asks a `Holding`, again where others came meanwhile or a hold is over.

    A batch is held only while nothing of another key waits.
    """

    def __init__(self, holding: Holding | None, live: LiveJobs, batches: Batches) -> None:
        self._holding, self._live, self._batches = holding, live, batches
        self._held: dict[Hashable, _Held] = {}

    def arrived(self, job: Job, now: float) -> None:
        """Nobody new has come with what was changed, or took steps before."""
        if self._holding is not None and job.is_new and not job.steps_done:
            self._holding.arrived(job.key, job.steps, now)

    def ended(self, key: Hashable, count: int, now: float) -> None:
        if self._holding is not None and count:
            self._holding.ended(key, count, now)

    def over(self, key: Hashable) -> None:
        """The batch runs."""
        self._held.pop(key, None)

    def until(self, leader: Job, waiting: int, now: float) -> float:
        """`now` or before it is not to hold. No deadline is missed for it: each job still ends in time alone and in a
        full batch; one without a deadline could still reach its target alone."""
        key, full, live = leader.key, self._batches.full(leader), self._live
        if self._holding is None or waiting >= full or waiting < live.waiting:
            return now
        slack = min(self._slack(job, full, now) for line in live.by_key[key].values() for _, _, job in line.jobs)
        held = self._held.get(key) or _Held(now + self._batches.policy.hold_max_s, 0, now)
        is_over = held.present == waiting and held.until <= now
        if held.present != waiting or (is_over and now < held.bound):
            # Callers who are a little late are worth as much as before; a forecast of newcomers had its chance.
            most, for_callers = min(slack, held.bound - now), is_over or bool(live.paused)
            seconds = self._holding.seconds(key, waiting, full, most, now, started=for_callers)
            if is_over and seconds < AGAIN_S:
                seconds = 0.0
            held = self._held[key] = _Held(held.bound, waiting, now + seconds)
        return min(held.until, held.bound, now + slack)

    def _slack(self, job: Job, full: int, now: float) -> float:
        """What a batch takes is corrected for each size by itself: the larger may seem to take less."""
        sizes = (1,) if job.deadline is None else (1, full)
        return job.target - now - max(self._batches.time(job.key, job.remaining, size) for size in sizes)
