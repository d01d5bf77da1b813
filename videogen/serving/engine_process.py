"""The service's handle of its engine process: gives it work, and hears what became of it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from videogen.errors import EngineUnavailable, GenerationFailed
from videogen.serving.engine.calls import Calls
from videogen.serving.engine.child import Child, Gone
from videogen.serving.engine.messages import (
    Answer,
    Begin,
    Cancel,
    Change,
    Died,
    EngineConfig,
    EngineEvent,
    EngineJob,
    Failed,
    Finished,
    Fork,
    Load,
    Loaded,
    Loading,
    Pause,
    Progress,
    Ready,
    RunJob,
    Running,
    Stats,
    Stepped,
    Stopped,
    Synthetic,
    ToEngine,
    Unload,
    VersionToLoad,
)
from videogen.serving.engine.runs import Forked, Runs

__all__ = [
    "Died", "EngineConfig", "EngineEvent", "EngineJob", "EngineProcess", "Failed", "Finished", "Forked", "Loaded",
    "Loading", "Progress", "Stats", "Synthetic", "VersionToLoad",
]  # fmt: skip

logger = logging.getLogger(__name__)


class EngineProcess:
    """One engine process at a time. Everything is called, and `on_event` is called, on one event loop.

    `held` is what it was given and has not ended; `busy` what is in a running batch or a stage, as of its last message.
    The process knows each run of a job by a name of its own, so that what it says of one is never taken for another.
    """

    def __init__(self, config: EngineConfig, on_event: Callable[[EngineEvent], None]) -> None:
        self._child, self._on_event = Child(config, self._take, self._ended), on_event
        self._runs, self._calls = Runs(), Calls()
        self._asked: dict[str, asyncio.Future[Finished]] = {}

    @property
    def config(self) -> EngineConfig:
        return self._child.config

    @property
    def ready(self) -> Ready | None:
        """What it said of itself when it came up; None without a process."""
        return self._child.ready

    @property
    def alive(self) -> bool:
        return self._child.alive

    @property
    def pid(self) -> int | None:
        return self._child.pid

    @property
    def held(self) -> frozenset[str]:
        return self._runs.held

    @property
    def busy(self) -> frozenset[str]:
        return self._runs.busy

    async def start(self) -> None:
        """A new process, with no version loaded. Raises EngineUnavailable if it doesn't come up."""
        await self._child.start()

    async def stop(self, grace_s: float) -> frozenset[str]:
        """Lets it finish what it has for at most `grace_s` seconds, then ends it. Gives what it still held.

        No Died follows. Without a process nothing happens.
        """
        if self.pid is None:
            return frozenset()
        await self._child.stop(grace_s)
        left = self.held
        self._runs.clear()
        return left

    def kill(self) -> None:
        """Ends it at once, whatever it does, with all that it started."""
        self._child.kill()

    async def load(self, version: VersionToLoad) -> Loaded:
        """Loads, checks and warms a version; it runs its jobs from then on. Raises EngineUnavailable or EngineError."""
        return Loaded(**await self._call(lambda number: Load(number, version)))

    async def unload(self, version_digest: str) -> None:
        """Frees a version. Raises EngineError while jobs of it are there, or if it isn't loaded."""
        await self._call(lambda number: Unload(number, version_digest))

    def run(self, job: EngineJob) -> None:
        """Hands over a job; its events follow. Where the process is dead, its Died tells of the job as held.

        One that is there under the same id ends, and no event tells of that.
        """
        if (before := self._runs.of(job.id)) is not None:
            self._child.send(Cancel(before))
        self._child.send(RunJob(replace(job, id=self._runs.start(job.id))))

    async def fork(self, source: str, job: EngineJob, fields: Mapping[str, str | float]) -> Forked | None:
        """Has `job` take over the latents of the job `source` at its next step boundary, with `fields` changed.

        It waits for `begin` or `forgo`, while `source` goes on. None if there is no such job any more. Raises
        EngineError if the new text cannot be read, EngineUnavailable for what may pass when it is asked again.
        """
        of = self._runs.of(source)
        if of is None:
            return None
        run, step = self._runs.fork(job.id), None
        try:
            step = await self._call(lambda number: Fork(number, of, replace(job, id=run), dict(fields)))
        finally:
            if step is None and self._runs.forgo(run):
                self._child.send(Cancel(run))
        return None if step is None else Forked(job.id, source, step, run)

    def begin(self, forked: Forked, *, instead: bool) -> bool:
        """The fork's job is made from now on. False, and nothing happens, if the process has ended meanwhile.

        With `instead`, what it was made of ends, and no event tells of that.
        """
        if not self._runs.begin(forked, instead=instead):
            return False
        self._child.send(Begin(forked.run, instead))
        return True

    def rename(self, job_id: str, name: str) -> None:
        """What is made under one id is from now on made under another."""
        self._runs.rename(job_id, name)

    def forgo(self, forked: Forked) -> None:
        """The fork is not to be made; what it was made of goes on."""
        if self._runs.forgo(forked.run):
            self._child.send(Cancel(forked.run))

    async def make(self, job: EngineJob) -> Finished:
        """Runs a job for its caller alone: no event tells of it. Who stops waiting cancels it.

        Raises GenerationFailed, or EngineUnavailable without a process or when that ends.
        """
        if not self.alive:
            raise EngineUnavailable("there is no engine process")
        future = self._asked[job.id] = asyncio.get_running_loop().create_future()
        self.run(job)
        try:
            return await future
        except asyncio.CancelledError:
            self.cancel(job.id)
            raise
        finally:
            del self._asked[job.id]

    def cancel(self, job_id: str) -> None:
        """At the next step boundary; Failed with code "cancelled" follows, unless it ended before or came again."""
        if (run := self._runs.of(job_id)) is not None:
            self._child.send(Cancel(run))

    def change(self, job_id: str, *, priority: Any = None, deadline_in: float | None = None) -> None:
        """From the next step boundary on; `deadline_in` in seconds from now, None takes the deadline away."""
        if (run := self._runs.of(job_id)) is not None:
            self._child.send(Change(run, priority, deadline_in))

    def pause(self) -> None:
        """No step begins until `resume`."""
        self._child.send(Pause(True))

    def resume(self) -> None:
        self._child.send(Pause(False))

    # Inside

    async def _call(self, message: Callable[[int], ToEngine]) -> Any:
        if not self.alive:
            raise EngineUnavailable("there is no engine process")
        with self._calls.new() as (number, answer):
            self._child.send(message(number))
            return await answer

    def _take(self, message: Any) -> None:
        match message:
            case Stepped():
                for run, done, steps in message.steps:
                    job_id = self._runs.job_of(run)
                    if job_id is not None and job_id not in self._asked:
                        self._tell(Progress(job_id, done, steps))
            case Running():
                self._runs.at(message.place, message.ids)
            case Finished() | Failed():
                if (job_id := self._runs.end(message.id)) is not None:
                    self._give(replace(message, id=job_id))
            case Stats() | Loading():
                self._tell(message)
            case Answer():
                self._calls.answer(message)
            case Stopped():
                self._runs.keep(message.held)

    def _give(self, end: Finished | Failed) -> None:
        future = self._asked.get(end.id)
        if future is None or future.done():
            self._tell(end)
        elif isinstance(end, Finished):
            future.set_result(end)
        else:
            future.set_exception(GenerationFailed(end.error))

    def _tell(self, event: EngineEvent) -> None:
        try:
            self._on_event(event)
        except Exception:  # whoever listens must not cost others their events
            logger.exception("an event of the engine process was not taken: %s", type(event).__name__)

    def _ended(self, gone: Gone) -> None:
        busy, held = self.busy - self._asked.keys(), self.held - self._asked.keys()
        self._runs.died()
        for future in [*self._calls.waiting, *self._asked.values()]:
            if not future.done():
                future.set_exception(gone.error)
        if gone.is_unasked:
            self._runs.clear()
            self._tell(Died(gone.exit_code, busy, held, gone.reason))
