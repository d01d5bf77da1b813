"""Before the steps: texts are encoded, then their jobs are scheduled, or wait for the latents of others."""

import time
from collections.abc import Sequence

from videogen.serving.engine.forks import Forks
from videogen.serving.engine.held import Held
from videogen.serving.engine.lives import Live
from videogen.serving.engine.occupancy import Occupancy
from videogen.serving.engine.schedule import Schedule
from videogen.serving.engine.stages import Stage, one_by_one


class Text:
    """One device's. `nice` is how far its thread stands back for steps."""

    def __init__(self, schedule: Schedule, held: Held, forks: Forks, occupancy: Occupancy, nice: int) -> None:
        self._schedule, self._held, self._forks, self._occupancy = schedule, held, forks, occupancy
        self.stage = Stage(
            "text", self._encode, held.at, together=lambda live: live.version, most=schedule.most, room=None, nice=nice
        )

    def put(self, live: Live) -> None:
        self.stage.put([live])

    def _encode(self, lives: list[Live]) -> None:
        one_by_one(self._held.wanted(lives), self._start, self._held.fail)

    def _start(self, lives: Sequence[Live]) -> None:
        if not lives:
            return
        with self._occupancy.call():
            started = time.perf_counter()
            generations = lives[0].version.model.start([live.to_read for live in lives])
            seconds = time.perf_counter() - started
        with self._held.changed:
            for live, generation in zip(lives, generations, strict=True):
                live.spent("text", seconds, len(lives))
                live.generation = generation
                if live.forking is not None:
                    self._forks.wait(live, live.forking.source)
                elif not live.cancelled:
                    self._forks.split(live)
                    self._schedule.add(live)
            self._held.changed.notify_all()
        self._held.wanted(lives)
