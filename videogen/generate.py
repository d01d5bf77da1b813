"""Requests in, clips out: batches through a model on parallel streams; who fails, fails alone."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from videogen.errors import GenerationFailed, VideogenError
from videogen.models.family import Generation, VideoModel
from videogen.requests import batch_key

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest

Progress = Callable[["Sequence[AcceptedRequest]", float], None]
"""Called from a stream's thread after each step: the batch, and the share of its steps taken, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Where one clip's time went: seconds of its stream, its batch's wall time divided by the batch's size.

    When `fused`, denoising and decoding were one call, and `denoise` holds both.
    """

    text: float
    denoise: float
    decode: float
    batch: int
    fused: bool

    @property
    def total(self) -> float:
        return self.text + self.denoise + self.decode


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A finished video: `frames` is uint8 (T, H, W, 3)."""

    request: "AcceptedRequest"
    frames: np.ndarray
    timings: Timings


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that gave no video, and why."""

    request: "AcceptedRequest"
    error: VideogenError


@dataclass(frozen=True, slots=True)
class Generator:
    """Generates with `model` on as many threads as its engine has streams, `batch_size` requests to a call.

    What `batch_size` gives the most videos per second, the engine's latency profile says.
    """

    model: VideoModel
    batch_size: int = 1
    fused: bool = field(default=True, kw_only=True)
    """Use the engine's fused sampler where it fits. It reports progress only at its end."""

    def generate(
        self, requests: "Sequence[AcceptedRequest]", on_progress: Progress | None = None
    ) -> Iterator[Clip | Failure]:
        """One outcome per request, each as soon as it is there, so not in their order.

        At most two batches per stream are on their way; closing the iterator ends the work after those.
        """
        waiting, streams = deque(self._batches(requests)), self.model.engine.streams
        if streams == 1:
            for batch in waiting:
                yield from self._run(batch, on_progress)
            return
        running: set[Future[list[Clip | Failure]]] = set()
        pool = ThreadPoolExecutor(streams, thread_name_prefix="videogen-stream")
        try:
            while waiting or running:
                while waiting and len(running) < 2 * streams:
                    running.add(pool.submit(self._run, waiting.popleft(), on_progress))
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    yield from future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _batches(self, requests: "Sequence[AcceptedRequest]") -> "Iterator[list[AcceptedRequest]]":
        """Requests of one size and number of steps, `batch_size` at a time, fewer where a stream would be left idle."""
        share = -(-len(requests) // self.model.engine.streams)
        size = max(1, min(self.batch_size, share))
        for _, group in groupby(sorted(requests, key=batch_key), key=batch_key):
            alike = list(group)
            yield from (alike[first : first + size] for first in range(0, len(alike), size))

    def _run(self, batch: "list[AcceptedRequest]", on_progress: Progress | None) -> list[Clip | Failure]:
        # Whatever goes wrong with one request, be it a fault of ours, must not cost the others their video: a batch
        # that failed is run again one by one, and who fails alone is the one to report.
        try:
            return list(self._together(batch, on_progress))
        except Exception as error:
            if len(batch) > 1:
                return [outcome for request in batch for outcome in self._run([request], on_progress)]
            return [Failure(batch[0], _named(error))]

    def _together(self, batch: "list[AcceptedRequest]", on_progress: Progress | None) -> list[Clip]:
        clock = [time.perf_counter()]
        generations = self.model.start(batch)
        clock.append(time.perf_counter())
        fused = self.fused and self.model.can_sample(generations)
        frames = self.model.sample(generations) if fused else self._step_all(generations, on_progress)
        clock.append(time.perf_counter())
        frames = frames or self.model.finish(generations)
        clock.append(time.perf_counter())
        text, denoise, decode = (np.diff(clock) / len(batch)).tolist()
        if fused and on_progress:
            on_progress(batch, 1.0)
        timings = Timings(text, denoise, decode, len(batch), fused)
        return [Clip(request, video, timings) for request, video in zip(batch, frames, strict=True)]

    def _step_all(self, generations: list[Generation], on_progress: Progress | None) -> list[np.ndarray]:
        while not all(generation.is_done for generation in generations):
            self.model.step(generations)
            if on_progress:
                on_progress([g.request for g in generations], min(g.progress for g in generations))
        return []


def _named(error: Exception) -> VideogenError:
    if isinstance(error, VideogenError):
        return error
    named = GenerationFailed(f"{type(error).__name__}: {error}")
    named.__cause__ = error
    return named
