"""The scheduler, as the jobs on their way through the engine process know it."""

import time
from collections.abc import Sequence

from videogen.scheduling.costs import Corrected, Profiled
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import MEMORY_S, WorthHolding
from videogen.scheduling.job import Job, Priority
from videogen.scheduling.policy import Policy
from videogen.scheduling.run import Hold, Run
from videogen.scheduling.scheduler import Scheduler
from videogen.serving.engine.keys import Keys
from videogen.serving.engine.lives import Live
from videogen.serving.engine.messages import EngineConfig


class Schedule:
    """Of one device's streams; called under the lock of what is `Held`. Times are seconds on the monotonic clock.

    `most` is the largest batch.
    """

    def __init__(self, config: EngineConfig, streams: int) -> None:
        self.streams, self.keys = streams, Keys()
        self.most = config.synthetic.largest if config.synthetic else config.batch_max
        policy = Policy(batch_max=self.most, hold_max_s=config.hold_max_s)
        costs = Corrected(Profiled(self.keys.tables))
        self._holding = WorthHolding(
            Forecast(MEMORY_S), costs, bound_s=policy.hold_max_s, streams=streams, fused_max_s=policy.fused_max_s
        )
        self.scheduler = Scheduler(costs, policy, streams=streams, holding=self._holding)
        self._of: dict[Job, Live] = {}

    def add(self, live: Live) -> None:
        """From its next step on."""
        now = time.monotonic()
        live.key = self.keys.of(live.version, live.accepted, live.step)
        live.scheduled = job = _job(live)
        self._of[job] = live
        self.scheduler.add(job, now)

    def change(self, live: Live, priority: Priority | None) -> None:
        """Its deadline is another, and its class with a `priority`."""
        if live.scheduled is not None:
            self.scheduler.change(live.scheduled.id, priority=priority, deadline=live.deadline)

    def cancel(self, live: Live) -> bool:
        """It takes no further step. Was it here, and in no run?"""
        job = live.scheduled and self.scheduler.cancel(live.scheduled.id)
        return job is not None and not job.busy

    def leave(self, live: Live) -> None:
        """It has ended."""
        if live.scheduled is not None:
            self._of.pop(live.scheduled, None)

    def forget(self, digest: str) -> None:
        """No job of the version is here, and it goes."""
        for key in self.keys.forget(digest):
            self.scheduler.forget(key)
            self._holding.forget(key)

    def next(self, now: float) -> Run | Hold | None:
        return self.scheduler.next(now)

    def lives(self, jobs: Sequence[Job]) -> list[Live]:
        return [self._of[job] for job in jobs]

    def stepped(self, run: Run, seconds: float, now: float) -> list[Live]:
        """Gives those that have all their steps now."""
        return self.lives(self.scheduler.stepped(run, seconds, now))

    def failed(self, run: Run) -> None:
        """All of a run failed."""
        self.scheduler.failed(run)

    def add_again(self, live: Live) -> None:
        """Its next step may go with others than its last did."""
        job, key = live.scheduled, self.keys.of(live.version, live.accepted, live.step)
        if job is not None and not job.cancelled and key != live.key and self.scheduler.cancel(job.id):
            del self._of[job]
            self.add(live)

    def observe_rest(self, live: Live, seconds: float) -> None:
        """What surrounds its steps took so long."""
        size = max(live.batches, key=lambda batch: live.batches[batch])
        self.scheduler.costs.observe_rest(live.key, size, self.streams, seconds * size)

    def expected_per_s(self, now: float) -> float:
        """Jobs a second that are forecast."""
        return sum(self._holding.forecast.rate(key, now) for key in self.keys.tables)


def _job(live: Live) -> Job:
    return Job(
        id=live.job.id,
        key=live.key,
        steps=live.accepted.request.num_inference_steps or 1,
        steps_done=live.step,
        tenant=live.job.tenant,
        priority=live.job.priority,
        arrived=live.received,
        deadline=live.deadline,
        weight=live.job.weight,
        is_new=not live.accepted.changes,
    )
