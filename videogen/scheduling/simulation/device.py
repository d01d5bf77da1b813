"""A simulated device: the scheduler that really serves, asked at every step boundary."""

import math
from collections.abc import Callable

from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import MEMORY_S, WorthHolding
from videogen.scheduling.job import Job
from videogen.scheduling.run import Hold, Run
from videogen.scheduling.scheduler import Scheduler
from videogen.scheduling.simulation.clock import Clock, Turn
from videogen.scheduling.simulation.fleet import Fleet
from videogen.scheduling.simulation.outcome import Outcome


class Device:
    """`on_ended` is told the jobs that were made, `on_room` that more may be claimed. `front` is its own."""

    def __init__(
        self, fleet: Fleet, clock: Clock, outcome: Outcome,
        on_ended: Callable[["Device", list[Job]], object], on_room: Callable[["Device"], object],
    ) -> None:  # fmt: skip
        self._fleet, self._clock, self._outcome = fleet, clock, outcome
        self._on_ended, self._on_room = on_ended, on_room
        self.front = Turn(clock)
        self.coming = 0
        """Jobs that are claimed for it and on their way."""
        self.asks = False
        """Does it stand in the queue's line of those who want work?"""
        self._free, self._wake = fleet.streams, math.inf
        self._scheduler = Scheduler(fleet.costs, fleet.policy, streams=fleet.streams, holding=_holding(fleet))

    def __len__(self) -> int:
        """Its jobs, also those on their way."""
        return len(self._scheduler) + self.coming

    def deliver(self, jobs: list[Job]) -> None:
        for job in jobs:
            self._scheduler.add(job, self._clock.now)
        self._run()
        self._on_room(self)

    def drop(self, job_id: str) -> None:
        """Ends one of its jobs, at the next boundary; one that is not here is no error."""
        if self._scheduler.cancel(job_id) is not None:
            self._on_room(self)

    def _run(self) -> None:
        self._wake = math.inf
        while self._free:
            choice = self._scheduler.next(self._clock.now)
            if choice is None:
                return
            if isinstance(choice, Hold):
                self._wake = choice.until
                self._clock.at(choice.until, self._woken, choice.until, self._clock.now)
                return
            self._free -= 1
            key, size, busy = choice.jobs[0].key, len(choice.jobs), self._fleet.streams - self._free
            seconds = choice.steps * self._fleet.costs.step(key, size, busy)
            self._outcome.batches[size] += choice.steps
            self._clock.at(self._clock.now + self._fleet.boundary_s + seconds, self._stepped, choice, seconds)

    def _woken(self, until: float, since: float) -> None:
        if self._wake == until:
            self._outcome.held_s += until - since
            self._run()

    def _stepped(self, run: Run, seconds: float) -> None:
        ended = self._scheduler.stepped(run, seconds, self._clock.now)
        self._outcome.busy_s += self._fleet.boundary_s + seconds
        if not ended:
            self._freed([], 0.0)
            return
        rest = self._fleet.costs.rest(ended[0].key, len(ended), self._fleet.streams - self._free)
        self._clock.at(self._clock.now + rest, self._freed, ended, rest)

    def _freed(self, ended: list[Job], rest: float) -> None:
        self._free += 1
        self._outcome.busy_s += rest
        if ended:
            self._on_ended(self, ended)
        self._run()
        self._on_room(self)  # also without an end: what was dropped in a run leaves with it


def _holding(fleet: Fleet) -> WorthHolding | None:
    if not fleet.hold:
        return None
    policy = fleet.policy
    return WorthHolding(
        Forecast(MEMORY_S), fleet.costs,
        bound_s=policy.hold_max_s, streams=fleet.streams, fused_max_s=policy.fused_max_s,
    )  # fmt: skip
