"""One thread per stream: at every step boundary the scheduler says who steps; stages do what surrounds the steps."""

import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from videogen.errors import EngineError
from videogen.requests import AcceptedRequest
from videogen.scheduling.costs import Corrected, Profiled
from videogen.scheduling.forecast import Forecast
from videogen.scheduling.holding import MEMORY_S, WorthHolding
from videogen.scheduling.job import Job, Priority
from videogen.scheduling.policy import Policy
from videogen.scheduling.run import Hold, Run
from videogen.scheduling.scheduler import Scheduler
from videogen.serving.engine.figures import Figures
from videogen.serving.engine.keys import Keys
from videogen.serving.engine.lives import AskedFork, Live, cancelled, failure, refusal
from videogen.serving.engine.messages import (
    Answer,
    EngineConfig,
    EngineJob,
    Failed,
    Finished,
    Fork,
    FromEngine,
    Running,
    Stats,
    Stepped,
)
from videogen.serving.engine.stages import Stage, one_by_one
from videogen.serving.engine.stepping import advance
from videogen.serving.engine.versions import Version

FRAMES_ROOM = 16
"""Jobs that wait for a stage with latents or frames in memory before the streams help."""


class Loop:
    """Owns the scheduler and the streams of a device. `send` is told everything; it may be called from any thread.

    With `shares_cores`, the streams run on the cores that decoding and MP4 need. They do both themselves then, one
    video after the other: threads beside them would only take turns with them, each with the caches of the others.
    """

    def __init__(
        self, config: EngineConfig, streams: int, send: Callable[[FromEngine], None], *, shares_cores: bool = False
    ) -> None:
        self._config, self._streams, self._send = config, streams, send
        most, nice = config.synthetic.largest if config.synthetic else config.batch_max, config.stage_nice
        self._keys = Keys()
        costs, policy = Corrected(Profiled(self._keys.tables)), Policy(batch_max=most, hold_max_s=config.hold_max_s)
        self._holding = WorthHolding(
            Forecast(MEMORY_S), costs, bound_s=policy.hold_max_s, streams=streams, fused_max_s=policy.fused_max_s
        )
        self.scheduler = Scheduler(costs, policy, streams=streams, holding=self._holding)
        self.versions: dict[str, Version] = {}
        self._lives: dict[str, Live] = {}
        self._of: dict[Job, Live] = {}
        self._changed = threading.Condition()
        self._paused = False
        self._yielded = False
        self._told: dict[str, list[str]] = {}
        self._calls: dict[int | str, float] = {}
        self._figures = Figures(streams)
        self._text = Stage(
            "text", self._encode, self._tell, together=lambda live: live.version, most=most, room=None, nice=nice
        )
        room, decoded = (0, 1) if shares_cores else (FRAMES_ROOM, most)
        self._decoder = Stage(
            "decode", self._decode, self._tell, together=lambda live: live.key, most=decoded, room=room, nice=nice
        )
        self._mp4 = Stage("mp4", self._publish, self._tell, together=id, most=1, room=room, nice=nice)
        for number in range(streams):
            threading.Thread(target=self._stream, args=(number,), name=f"videogen-stream-{number}", daemon=True).start()

    # What comes from outside

    def run(self, job: EngineJob) -> None:
        """Takes a job; whatever is wrong with it is answered with Failed."""
        try:
            live = self._accept(job)
        except Exception as error:
            self._send(failure(job.id, error))
            return
        with self._changed:
            self._lives[job.id] = live
        self._text.put([live])

    def cancel(self, job_id: str) -> None:
        with self._changed:
            live = self._lives.get(job_id)
            if live is None:
                return
            live.cancelled = True
            job = live.scheduled and self.scheduler.cancel(live.scheduled.id)
            is_idle = live.forking.is_answered if live.forking else job is not None and not job.busy
        if is_idle:
            self._end(live, cancelled(live))

    def change(self, job_id: str, priority: Priority | None, deadline_in: float | None) -> None:
        """From the next step boundary on; without a `deadline_in` it has no deadline any more."""
        with self._changed:
            live = self._lives.get(job_id)
            if live is None:
                return
            live.job = replace(live.job, priority=priority or live.job.priority)
            live.deadline = None if deadline_in is None else time.monotonic() + deadline_in
            if live.scheduled is not None:
                self.scheduler.change(live.scheduled.id, priority=priority, deadline=live.deadline)
            self._changed.notify_all()

    def fork(self, asked: Fork) -> None:
        """Makes a job of another's latents at its next boundary, whose new text is encoded while that one goes on."""
        try:
            live = self._accept(asked.job)
        except Exception as error:
            self._send(refusal(asked.call, failure(asked.job.id, error)))
            return
        with self._changed:
            source = self._lives.get(asked.id)
            if source is None or source.cancelled:
                self._send(Answer(asked.call))
                return
            live.forking, live.received = AskedFork(asked.call, source, asked.fields), source.received
            self._lives[live.job.id] = live
        self._text.put([live])

    def begin(self, job_id: str, *, instead: bool) -> None:
        """A fork takes its steps from now on; with `instead`, the job that it was made of ends."""
        with self._changed:
            live = self._lives.get(job_id)
            if live is None or live.forking is None or live.cancelled:
                return
            source, live.forking = live.forking.source, None
            if instead:
                live.charge(source)
            self._schedule(live)
            self._changed.notify_all()
        if instead:
            self.cancel(source.job.id)

    def pause(self, paused: bool) -> None:
        with self._changed:
            self._paused = paused
            self._changed.notify_all()

    def hold_back(self, yielded: bool) -> None:
        """Begins no step while somebody else holds the device; waits until those under way have ended."""
        with self._changed:
            self._yielded = yielded
            self._changed.notify_all()
            self._changed.wait_for(lambda: not yielded or not self._calls)

    def add(self, version: Version) -> None:
        with self._changed:
            self.versions[version.digest] = version

    def remove(self, digest: str) -> None:
        """Raises EngineError while jobs of it are here, or if it isn't."""
        with self._changed:
            if digest not in self.versions:
                raise EngineError(f"version {digest[:12]} is not loaded")
            count = sum(live.version.digest == digest for live in self._lives.values())
            if count:
                raise EngineError(f"version {digest[:12]} is still needed by {count} jobs")
            del self.versions[digest]
            for key in self._keys.forget(digest):
                self.scheduler.forget(key)
                self._holding.forget(key)

    @property
    def held(self) -> list[str]:
        with self._changed:
            return list(self._lives)

    def drained(self, timeout_s: float) -> bool:
        """Waits until nothing is held any more; False if that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lives, timeout_s)

    @contextmanager
    def _on_device(self) -> Generator[None]:
        """A stage's call: it waits while somebody else holds the device."""
        name = threading.current_thread().name
        with self._changed:
            self._changed.wait_for(lambda: not self._yielded)
            self._calls[name] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del self._calls[name]
                self._changed.notify_all()

    # Text

    def _accept(self, job: EngineJob) -> Live:
        accepted, version = AcceptedRequest.model_validate(job.request), self.versions.get(job.version_digest)
        if version is None:
            raise EngineError(f"version {job.version_digest[:12]} is not loaded")
        now = time.monotonic()
        deadline = None if job.deadline_in is None else now + job.deadline_in
        with self._changed:
            return Live(job, accepted, version, self._keys.of(version, accepted, 0), now, deadline)

    def _schedule(self, live: Live) -> None:
        """From its next step on."""
        now = time.monotonic()
        live.key = self._keys.of(live.version, live.accepted, live.step)
        live.scheduled = job = self._scheduled(live)
        self._of[job] = live
        self.scheduler.add(job, now)

    def _scheduled(self, live: Live) -> Job:
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

    def _encode(self, lives: list[Live]) -> None:
        one_by_one(self._wanted(lives), self._start, self._fail)

    def _start(self, lives: Sequence[Live]) -> None:
        if not lives:
            return
        with self._on_device():
            started = time.perf_counter()
            generations = lives[0].version.model.start([live.to_read for live in lives])
            seconds = time.perf_counter() - started
        with self._changed:
            for live, generation in zip(lives, generations, strict=True):
                live.spent("text", seconds, len(lives))
                live.generation = generation
                if live.forking is not None:
                    live.forking.source.forks.append(live)
                    self._split(live.forking.source)
                elif not live.cancelled:
                    self._split(live)
                    self._schedule(live)
            self._changed.notify_all()
        self._wanted(lives)

    def _split(self, source: Live) -> None:
        """Those that wait for it take over its latents, if it is between two steps."""
        is_ended = self._lives.get(source.job.id) is not source
        if not is_ended and (source.generation is None or (source.scheduled is not None and source.scheduled.busy)):
            return
        forks, source.forks = source.forks, []
        for live in forks:
            live.cancelled |= is_ended
            if live.cancelled:
                self._end(live, cancelled(live))
                continue
            one_by_one([live], self._take_over, self._fail)

    def _take_over(self, lives: Sequence[Live]) -> None:
        for live in lives:
            if (forking := live.forking) is not None:
                accepted, source = live.accepted.changed(forking.source.step, forking.fields), forking.source
                live.generation = live.version.model.fork(source.generation, live.generation, accepted)
                live.accepted, forking.is_answered = accepted, True
                self._send(Answer(forking.call, accepted.changes[-1].step))

    def _wanted(self, lives: Sequence[Live]) -> list[Live]:
        """Those that nobody cancelled; the others end here."""
        for live in lives:
            if live.cancelled:
                self._end(live, cancelled(live))
        return [live for live in lives if not live.cancelled]

    # Steps

    def _stream(self, number: int) -> None:
        while True:
            run, lives = self._next(number)
            self._tell(f"stream {number}", lives)
            self._step(number, run, lives)

    def _next(self, number: int) -> tuple[Run, list[Live]]:
        with self._changed:
            while True:
                timeout = None
                if not self._paused and not self._yielded:
                    now = time.monotonic()
                    found = self.scheduler.next(now)
                    self._figures.decided(now, is_held=isinstance(found, Hold))
                    if isinstance(found, Run):
                        self._calls[number] = time.monotonic()
                        return found, [self._of[job] for job in found.jobs]
                    timeout = None if found is None else max(0.0, found.until - now)
                self._tell(f"stream {number}", ())
                self._changed.wait(timeout)

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
        with self._changed:
            done = self._stepped(number, run, lives, seconds, failed)
            self._changed.notify_all()
        told = [(live.job.id, live.generation.step_index, live.generation.steps) for live in fine if not live.cancelled]
        self._send(Stepped(told))
        self._wanted([live for live in fine if live.cancelled])
        for live, error in failed.items():
            self._fail(live, error)
        self._hand_on(number, done)

    def _stepped(
        self, number: int, run: Run, lives: Sequence[Live], seconds: float, failed: dict[Live, Exception]
    ) -> list[Live]:
        now = time.monotonic()
        self._figures.stepped(number, len(run.jobs), run.steps, seconds, now - self._calls.pop(number))
        if len(failed) == len(run.jobs):
            self.scheduler.failed(run)
            return []
        for live in failed:
            if live.scheduled is not None:
                self.scheduler.cancel(live.scheduled.id)
        done = [self._of[job] for job in self.scheduler.stepped(run, seconds, now)]
        for live in lives:
            self._split(live)
            if live.accepted.changes and not live.generation.is_done:
                self._key_again(live)
        return done

    def _key_again(self, live: Live) -> None:
        """Its next step may go with others than its last did."""
        job, key = live.scheduled, self._keys.of(live.version, live.accepted, live.step)
        if job is not None and not job.cancelled and key != live.key and self.scheduler.cancel(job.id):
            del self._of[job]
            self._schedule(live)

    def _hand_on(self, number: int, done: Sequence[Live]) -> None:
        """What has all its steps goes to the stages; what they have no room for, the stream does now."""
        if not done:
            return
        began = time.monotonic()
        self._tell(f"stream {number}", done)
        whole, latents = [live for live in done if live.fused], [live for live in done if not live.fused]
        self._decoder.put(latents)
        self._mp4.put(whole)
        with self._changed:
            self._figures.helped(number, time.monotonic() - began)

    # Decoding and MP4

    def _decode(self, lives: list[Live]) -> None:
        one_by_one(self._wanted(lives), self._finish, self._fail)

    def _finish(self, lives: Sequence[Live]) -> None:
        if not lives:
            return
        with self._on_device():
            started = time.perf_counter()
            frames = lives[0].version.model.finish([live.generation for live in lives])
            seconds = time.perf_counter() - started
        for live, found in zip(lives, frames, strict=True):
            live.spent("decode", seconds, len(lives))
            live.frames = found
        self._mp4.put(lives)

    def _publish(self, lives: list[Live]) -> None:
        for live in self._wanted(lives):
            one_by_one([live], self._write, self._fail)

    def _write(self, lives: Sequence[Live]) -> None:
        for live in lives:
            started = time.perf_counter()
            mp4 = live.version.encode(live.frames, live.accepted.request.fps or 1)
            live.spent("mp4", time.perf_counter() - started, 1)
            size = max(live.batches, key=lambda batch: live.batches[batch])
            rest = sum(live.seconds.get(stage, 0.0) for stage in ("text", "decode", "mp4"))
            with self._changed:
                self.scheduler.costs.observe_rest(live.key, size, self._streams, rest * size)
            self._end(live, Finished(live.job.id, live.facts(self._streams), mp4))

    # What is told

    def _fail(self, live: Live, error: Exception) -> None:
        self._end(live, failure(live.job.id, error))

    def _end(self, live: Live, message: Finished | Failed) -> None:
        with self._changed:
            if live.scheduled is not None:
                self._of.pop(live.scheduled, None)
            if self._lives.get(live.job.id) is not live:
                return
            del self._lives[live.job.id]
            self._split(live)
            self._changed.notify_all()
        if (forking := live.forking) is None:
            self._send(message)
        elif not forking.is_answered:
            failed = isinstance(message, Failed) and not live.cancelled
            self._send(refusal(forking.call, message) if failed else Answer(forking.call))

    def _tell(self, place: str, lives: Sequence[Live]) -> None:
        ids = [live.job.id for live in lives]
        if self._told.get(place, []) != ids:
            self._told[place] = ids
            self._send(Running(place, ids))

    def stats(self) -> Stats:
        """Since the last time it was asked."""
        from videogen.engines.profile import resident_memory

        with self._changed:
            now = time.monotonic()
            return self._figures.stats(
                self._calls,
                waiting=self.scheduler.waiting,
                running=self.scheduler.running,
                work_s=self.scheduler.work(),
                expected_per_s=sum(self._holding.forecast.rate(key, now) for key in self._keys.tables),
                memory_bytes=resident_memory(),
                stages={stage.name: len(stage) for stage in (self._text, self._decoder, self._mp4)},
                paused=self._paused,
                yielded=self._yielded,
                versions=list(self.versions),
            )
