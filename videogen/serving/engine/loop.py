"""All that happens in the engine process: text, then steps on every stream, then decoding and MP4."""

import time
from collections.abc import Callable
from dataclasses import replace

from videogen.errors import EngineError
from videogen.requests import AcceptedRequest
from videogen.scheduling.job import Priority
from videogen.serving.engine.forks import Forks
from videogen.serving.engine.held import Held
from videogen.serving.engine.lives import Live, cancelled, failure, refusal
from videogen.serving.engine.messages import EngineConfig, EngineJob, Fork, FromEngine, Stats
from videogen.serving.engine.occupancy import Occupancy
from videogen.serving.engine.schedule import Schedule
from videogen.serving.engine.streams import Streams
from videogen.serving.engine.text import Text
from videogen.serving.engine.versions import Version
from videogen.serving.engine.videos import Videos


class Loop:
    """Owns the scheduler and the streams of a device. `send` is told everything; it may be called from any thread.

    `shares_cores` as `Videos` has it.
    """

    def __init__(
        self, config: EngineConfig, streams: int, send: Callable[[FromEngine], None], *, shares_cores: bool = False
    ) -> None:
        nice = config.stage_nice
        self.versions: dict[str, Version] = {}
        self.schedule = Schedule(config, streams)
        self._held = Held(self.schedule, send)
        self._occupancy = Occupancy(self._held.changed)
        self._forks = Forks(self.schedule, self._held)
        self._text = Text(self.schedule, self._held, self._forks, self._occupancy, nice)
        self._videos = Videos(self.schedule, self._held, self._occupancy, nice, shares_cores=shares_cores)
        self._streams = Streams(self.schedule, self._held, self._forks, self._videos, self._occupancy)

    # Jobs

    def run(self, job: EngineJob) -> None:
        """Takes a job; whatever is wrong with it is answered with Failed."""
        try:
            live = self._accept(job)
        except Exception as error:
            self._held.send(failure(job.id, error))
            return
        self._held.add(live)
        self._text.put(live)

    def _accept(self, job: EngineJob) -> Live:
        accepted, version = AcceptedRequest.model_validate(job.request), self.versions.get(job.version_digest)
        if version is None:
            raise EngineError(f"version {job.version_digest[:12]} is not loaded")
        now = time.monotonic()
        deadline = None if job.deadline_in is None else now + job.deadline_in
        with self._held.changed:
            return Live(job, accepted, version, self.schedule.keys.of(version, accepted, 0), now, deadline)

    def cancel(self, job_id: str) -> None:
        with self._held.changed:
            live = self._held.get(job_id)
            if live is None:
                return
            live.cancelled = True
            is_idle = self.schedule.cancel(live)
            if live.forking is not None:
                is_idle = live.forking.is_answered
        if is_idle:
            self._held.end(live, cancelled(live))

    def change(self, job_id: str, priority: Priority | None, deadline_in: float | None) -> None:
        """From the next step boundary on; without a `deadline_in` it has no deadline any more."""
        with self._held.changed:
            live = self._held.get(job_id)
            if live is None:
                return
            live.job = replace(live.job, priority=priority or live.job.priority)
            live.deadline = None if deadline_in is None else time.monotonic() + deadline_in
            self.schedule.change(live, priority)
            self._held.changed.notify_all()

    def fork(self, asked: Fork) -> None:
        """Makes a job of another's latents at its next boundary, whose new text is encoded while that one goes on."""
        try:
            live = self._accept(asked.job)
        except Exception as error:
            self._held.send(refusal(asked.call, failure(asked.job.id, error)))
            return
        if self._forks.ask(asked, live):
            self._text.put(live)

    def begin(self, job_id: str, *, instead: bool) -> None:
        """A fork takes its steps from now on; with `instead`, the job that it was made of ends."""
        source = self._forks.begin(job_id, instead=instead)
        if source is not None:
            self.cancel(source.job.id)

    @property
    def held(self) -> list[str]:
        return self._held.ids

    def drained(self, timeout_s: float) -> bool:
        """Waits until nothing is held any more; False if that took too long."""
        return self._held.drained(timeout_s)

    # The device and what is loaded on it

    def pause(self, paused: bool) -> None:
        self._occupancy.pause(paused)

    def hold_back(self, yielded: bool) -> None:
        """Begins no step while somebody else holds the device; waits until those under way have ended."""
        self._occupancy.hold_back(yielded)

    def add(self, version: Version) -> None:
        with self._held.changed:
            self.versions[version.digest] = version

    def remove(self, digest: str) -> None:
        """Raises EngineError while jobs of it are here, or if it isn't."""
        with self._held.changed:
            if digest not in self.versions:
                raise EngineError(f"version {digest[:12]} is not loaded")
            self._held.check_free(digest)
            del self.versions[digest]
            self.schedule.forget(digest)

    def stats(self) -> Stats:
        """Since the last time it was asked."""
        from videogen.engines.profile import resident_memory

        scheduler, occupancy = self.schedule.scheduler, self._occupancy
        with self._held.changed:
            return self._streams.figures.stats(
                occupancy.calls,
                waiting=scheduler.waiting,
                running=scheduler.running,
                work_s=scheduler.work(),
                expected_per_s=self.schedule.expected_per_s(time.monotonic()),
                memory_bytes=resident_memory(),
                stages={stage.name: len(stage) for stage in (self._text.stage, *self._videos.stages)},
                paused=occupancy.paused,
                yielded=occupancy.yielded,
                versions=list(self.versions),
            )
