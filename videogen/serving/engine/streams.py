"""One thread per stream: at every step boundary the scheduler says who steps."""

import threading
import time
from collections.abc import Sequence

from videogen.scheduling.run import Hold, Run
from videogen.serving.engine.figures import Figures
from videogen.serving.engine.forks import Forks
from videogen.serving.engine.held import Held
from videogen.serving.engine.lives import Live
from videogen.serving.engine.messages import Stepped
from videogen.serving.engine.occupancy import Occupancy
from videogen.serving.engine.schedule import Schedule
from videogen.serving.engine.stages import one_by_one
from videogen.serving.engine.stepping import advance
from videogen.serving.engine.videos import Videos


class Streams:
    """One device's. `figures` is called under the lock of what is `Held`."""

    def __init__(self, schedule: Schedule, held: Held, forks: Forks, videos: Videos, occupancy: Occupancy) -> None:
        self._schedule, self._held, self._forks, self._videos = schedule, held, forks, videos
        self._occupancy, self.figures = occupancy, Figures(schedule.streams)
        for number in range(schedule.streams):
            threading.Thread(target=self._serve, args=(number,), name=f"videogen-stream-{number}", daemon=True).start()

    def _serve(self, number: int) -> None:
        while True:
            run, lives = self._next(number)
            self._held.at(f"stream {number}", lives)
            self._step(number, run, lives)

    def _next(self, number: int) -> tuple[Run, list[Live]]:
        with self._held.changed:
            while True:
                timeout = None
                if self._occupancy.may_step:
                    now = time.monotonic()
                    found = self._schedule.next(now)
                    self.figures.decided(now, is_held=isinstance(found, Hold))
                    if isinstance(found, Run):
                        self._occupancy.enter(number)
                        return found, self._schedule.lives(found.jobs)
                    timeout = None if found is None else max(0.0, found.until - now)
                self._held.at(f"stream {number}", ())
                self._held.changed.wait(timeout)

    def _step(self, number: int, run: Run, lives: list[Live]) -> None:
        failed: dict[Live, Exception] = {}
        targets = {live: live.step + run.steps for live in lives}
        started = time.perf_counter()
        one_by_one(lives, lambda some: advance(some, targets), failed.__setitem__)
        seconds = time.perf_counter() - started
        fine = [live for live in lives if live not in failed]
        for live in fine:
            live.spent("denoise", seconds, len(lives))
            live.batches[len(lives)] = live.batches.get(len(lives), 0) + run.steps
        with self._held.changed:
            done = self._stepped(number, run, lives, seconds, failed)
            self._held.changed.notify_all()
        told = [(live.job.id, live.generation.step_index, live.generation.steps) for live in fine if not live.cancelled]
        self._held.send(Stepped(told))
        self._held.wanted([live for live in fine if live.cancelled])
        for live, error in failed.items():
            self._held.fail(live, error)
        self._hand_on(number, done)

    def _stepped(
        self, number: int, run: Run, lives: Sequence[Live], seconds: float, failed: dict[Live, Exception]
    ) -> list[Live]:
        now = time.monotonic()
        self.figures.stepped(number, len(run.jobs), run.steps, seconds, self._occupancy.leave(number, now))
        if len(failed) == len(run.jobs):
            self._schedule.failed(run)
            return []
        for live in failed:
            self._schedule.cancel(live)
        done = self._schedule.stepped(run, seconds, now)
        for live in lives:
            self._forks.split(live)
            if live.accepted.changes and not live.generation.is_done:
                self._schedule.add_again(live)
        return done

    def _hand_on(self, number: int, done: Sequence[Live]) -> None:
        if not done:
            return
        began = time.monotonic()
        self._held.at(f"stream {number}", done)
        self._videos.put(done)
        with self._held.changed:
            self.figures.helped(number, time.monotonic() - began)
