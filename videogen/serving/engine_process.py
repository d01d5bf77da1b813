"""The service's handle of its engine process: starts it, gives it work, notices when it dies or hangs."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from videogen.errors import EngineError, EngineUnavailable, GenerationFailed
from videogen.serving.engine.calls import Calls
from videogen.serving.engine.messages import (
    HEADER,
    Answer,
    Begin,
    Cancel,
    Change,
    Configure,
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
    MalformedMessage,
    Pause,
    Progress,
    Ready,
    RunJob,
    Running,
    Stats,
    Stepped,
    Stop,
    Stopped,
    Synthetic,
    ToEngine,
    Unload,
    VersionToLoad,
    decode,
    encode,
    sizes,
)
from videogen.serving.engine.runs import Forked, Runs

__all__ = [
    "Died", "EngineConfig", "EngineEvent", "EngineJob", "EngineProcess", "Failed", "Finished", "Forked", "Loaded",
    "Loading", "Progress", "Stats", "Synthetic", "VersionToLoad",
]  # fmt: skip

logger = logging.getLogger(__name__)
START_S = 60.0


class EngineProcess:
    """One engine process at a time. Everything is called, and `on_event` is called, on one event loop.

    `held` is what it was given and has not ended; `busy` what is in a running batch or a stage, as of its last message.
    The process knows each run of a job by a name of its own, so that what it says of one is never taken for another.
    """

    def __init__(self, config: EngineConfig, on_event: Callable[[EngineEvent], None]) -> None:
        self.config, self._on_event = config, on_event
        self.ready: Ready | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._runs, self._calls = Runs(), Calls()
        self._asked: dict[str, asyncio.Future[Finished]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._started: asyncio.Future[None] | None = None
        self._heard_at = 0.0
        self._stopping = False

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.returncode is None and self.ready is not None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def held(self) -> frozenset[str]:
        return self._runs.held

    @property
    def busy(self) -> frozenset[str]:
        return self._runs.busy

    async def start(self) -> None:
        """A new process, with no version loaded. Raises EngineUnavailable if it doesn't come up."""
        if self._process is not None:
            raise EngineError("the engine process is there already")
        loop = asyncio.get_running_loop()
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise EngineUnavailable(f"the engine process can't be started: {error}") from error
        with theirs:
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "videogen.serving.engine.worker", "--fd", str(theirs.fileno()),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                    env=_environment(self.config),
                )  # fmt: skip
            except OSError as error:
                ours.close()
                raise EngineUnavailable(f"the engine process can't be started: {error}") from error
            except BaseException:
                ours.close()
                raise
        try:
            reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            self.kill()
            self._process = None
            raise
        self._stopping, self._heard_at, self._started = False, loop.time(), loop.create_future()
        self._tasks = [
            loop.create_task(self._pass_on_lines(self._process)),
            loop.create_task(self._hear(reader, self._process)),
            loop.create_task(self._watch(self._process)),
        ]
        self._send(Configure(self.config))
        try:
            await asyncio.wait_for(asyncio.shield(self._started), START_S)
        except (TimeoutError, EngineError) as error:
            self.kill()
            await self._wait_gone()
            raise EngineUnavailable(f"the engine process did not come up: {error or 'no word from it'}") from error

    async def stop(self, grace_s: float) -> frozenset[str]:
        """Lets it finish what it has for at most `grace_s` seconds, then ends it. Gives what it still held.

        No Died follows. Without a process nothing happens.
        """
        if self._process is None:
            return frozenset()
        self._stopping = True
        self._send(Stop(grace_s))
        try:
            await asyncio.wait_for(self._wait_gone(), grace_s + 5.0)
        except TimeoutError:
            self.kill()
            await self._wait_gone()
        left = self.held
        self._runs.clear()
        return left

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
            self._send(Cancel(before))
        self._send(RunJob(replace(job, id=self._runs.start(job.id))))

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
                self._send(Cancel(run))
        return None if step is None else Forked(job.id, source, step, run)

    def begin(self, forked: Forked, *, instead: bool) -> bool:
        """The fork's job is made from now on. False, and nothing happens, if the process has ended meanwhile.

        With `instead`, what it was made of ends, and no event tells of that.
        """
        if not self._runs.begin(forked, instead=instead):
            return False
        self._send(Begin(forked.run, instead))
        return True

    def rename(self, job_id: str, name: str) -> None:
        """What is made under one id is from now on made under another."""
        self._runs.rename(job_id, name)

    def forgo(self, forked: Forked) -> None:
        """The fork is not to be made; what it was made of goes on."""
        if self._runs.forgo(forked.run):
            self._send(Cancel(forked.run))

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
            self._send(Cancel(run))

    def change(self, job_id: str, *, priority: Any = None, deadline_in: float | None = None) -> None:
        """From the next step boundary on; `deadline_in` in seconds from now, None takes the deadline away."""
        if (run := self._runs.of(job_id)) is not None:
            self._send(Change(run, priority, deadline_in))

    def pause(self) -> None:
        """No step begins until `resume`."""
        self._send(Pause(True))

    def resume(self) -> None:
        self._send(Pause(False))

    def kill(self) -> None:
        """Ends it at once, whatever it does, with all that it started."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    # Inside

    def _send(self, message: ToEngine) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(message))

    async def _call(self, message: Callable[[int], ToEngine]) -> Any:
        if not self.alive:
            raise EngineUnavailable("there is no engine process")
        with self._calls.new() as (number, answer):
            self._send(message(number))
            return await answer

    async def _pass_on_lines(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than the buffer
                continue
            if not line:
                return
            logger.info("engine process %d: %s", process.pid, line.decode(errors="replace").rstrip())

    async def _hear(self, reader: asyncio.StreamReader, process: asyncio.subprocess.Process) -> None:
        reason = ""
        try:
            while True:
                head, payload = sizes(await reader.readexactly(HEADER.size))
                message = decode(await reader.readexactly(head), await reader.readexactly(payload))
                self._heard_at = asyncio.get_running_loop().time()
                self._take(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        except MalformedMessage as error:
            reason = f"it sent what can't be read: {error}"
        if reason:
            self.kill()
        await self._ended(process, reason)

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        limit = self.config.hang_after_s
        while process.returncode is None:
            await asyncio.sleep(min(1.0, limit / 4))
            if self.ready is not None and asyncio.get_running_loop().time() - self._heard_at > limit:
                logger.error("engine process %d has said nothing for %.1f s and is ended", process.pid, limit)
                self.kill()
                return

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
            case Stats():
                if message.call_age_s > self.config.hang_after_s:
                    logger.error("a call of engine process %s hangs; it is ended", self.pid)
                    self.kill()
                self._tell(message)
            case Loading():
                self._tell(message)
            case Answer():
                self._calls.answer(message)
            case Ready():
                self.ready = message
                if self._started and not self._started.done():
                    self._started.set_result(None)
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

    async def _ended(self, process: asyncio.subprocess.Process, reason: str) -> None:
        if self._writer is not None:
            self._writer.close()
        try:
            code = await asyncio.wait_for(process.wait(), 5.0)
        except TimeoutError:
            self.kill()
            code = await process.wait()
        busy, held = self.busy - self._asked.keys(), self.held - self._asked.keys()
        self._process, self._writer, self.ready = None, None, None
        self._runs.died()
        gone = EngineUnavailable(f"the engine process ended (exit code {code})")
        for future in [*self._calls.waiting, *self._asked.values(), *([self._started] if self._started else [])]:
            if not future.done():
                future.set_exception(gone)
        self._tasks[-1].cancel()
        came_up = self._started is not None and self._started.done() and self._started.exception() is None
        if self._stopping or not came_up:
            return
        self._runs.clear()
        self._tell(Died(code, busy, held, reason))

    async def _wait_gone(self) -> None:
        await asyncio.wait(self._tasks)


def _environment(config: EngineConfig) -> dict[str, str]:
    """One thread for every library that would take all cores: streams are what runs side by side."""
    threads = str(config.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, threads), "PYTHONUNBUFFERED": "1"}
