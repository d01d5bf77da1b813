"""The latency profile T(B): seconds per call of each network over batch sizes and parallel streams, on this device."""

import dataclasses
import json
import math
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videogen.engines.base import Arrays, Engine, Precision, Target
from videogen.engines.device import cpu_architecture
from videogen.errors import ArtifactCorrupt
from videogen.models.loading import latent_layout, load_tokenizer
from videogen.models.spec import read_spec

LoadEngine = Callable[[int, int], Engine]
"""(threads per stream, streams) -> an engine."""


@dataclass(frozen=True, slots=True)
class LatencyPoint:
    """`median` and `p90` seconds of a call of `network` on a batch of `batch`, while `streams` make such calls."""

    network: str
    batch: int
    streams: int
    median: float
    p90: float
    calls: int

    @property
    def rows_per_second(self) -> float:
        return self.batch * self.streams / self.median


@dataclass(frozen=True, slots=True)
class LatencyProfile:
    """Measured on `device` with `threads` threads per stream.

    One that is not `exclusive` was taken while other work ran: it is shown, and not used for scheduling. `memory` is
    the growth of the process's resident set in bytes, by loading one stream and by running the largest batch.
    """

    engine_key: str
    target: Target
    precision: Precision
    device: str
    architecture: str
    threads: int
    exclusive: bool
    num_inference_steps: int
    guided: bool
    load_seconds: float
    memory: dict[str, int]
    points: tuple[LatencyPoint, ...]

    def point(self, network: str, batch: int, streams: int = 1) -> LatencyPoint | None:
        """The measurement of this very batch and number of streams, if there is one."""
        found = (p for p in self.points if (p.network, p.batch, p.streams) == (network, batch, streams))
        return next(found, None)

    def seconds(self, network: str, batch: int, streams: int = 1) -> float:
        """T(B): the measured median, between two measured batches by a straight line, beyond the largest in proportion.

        Raises KeyError for a network or a number of streams that was not measured.
        """
        line = sorted((p.batch, p.median) for p in self.points if (p.network, p.streams) == (network, streams))
        if not line:
            raise KeyError(f"{network} with {streams} streams was not measured")
        batches, medians = zip(*line, strict=True)
        if batch > batches[-1]:
            return medians[-1] * batch / batches[-1]
        return float(np.interp(batch, batches, medians))

    def seconds_per_video(self, batch: int, streams: int) -> float:
        """Seconds of this machine per video, at the model's default steps: the stages' calls over what they serve."""
        if any(p.network == "sampler" for p in self.points):
            whole = self.seconds("sampler", batch, streams)
        else:
            rows = 2 * batch if self.guided else batch
            whole = self.num_inference_steps * self.seconds("denoiser", rows, streams) + self.seconds(
                "decoder", batch, streams
            )
        return (whole + self.seconds("text_encoder", batch, streams)) / (batch * streams)

    def best(self, streams: int | None = None) -> tuple[int, int]:
        """The batch size and the number of streams with the most videos per second; of near ties, the smaller batch.

        With `streams`, among the measurements of that many.
        """
        measured = {(p.batch, p.streams) for p in self.points if p.network == "denoiser"}
        choices = {choice for choice in measured if streams in (None, choice[1])}
        cost = {choice: self.seconds_per_video(*choice) for choice in choices}
        limit = 1.03 * min(cost.values())
        return min(choice for choice in choices if cost[choice] <= limit)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> "LatencyProfile":
        """Raises ArtifactCorrupt if `text` is not what `to_json` wrote."""
        try:
            stored = json.loads(text)
            points = tuple(LatencyPoint(**point) for point in stored.pop("points"))
            return cls(points=points, **stored)
        except (ValueError, TypeError, KeyError) as error:
            raise ArtifactCorrupt(f"not a latency profile: {error}") from error


def profile_engine(
    model_folder: Path | str,
    engine_key: str,
    load: LoadEngine,
    *,
    threads: int = 1,
    batches: Sequence[int] = (1, 2, 4, 8, 16),
    streams: Sequence[int] = (1, 2),
    exclusive: bool = False,
    seconds_per_point: float = 0.2,
    on_point: Callable[[LatencyPoint], None] | None = None,
) -> LatencyProfile:
    """Loads the engine once per number of streams and times every network at every batch.

    Each point gets a warm-up call per stream, then at least three calls and about `seconds_per_point`.
    """
    spec, points, memory = read_spec(model_folder), [], {}
    before, started = resident_memory(), time.perf_counter()
    for count in streams:
        engine = load(threads, count)
        if count == streams[0]:
            load_seconds, memory["load"] = time.perf_counter() - started, max(0, resident_memory() - before)
            first = engine
        for batch in batches:
            for network, inputs in example_inputs(model_folder, engine, batch).items():
                points.append(_measure(engine, network, inputs, batch, count, seconds_per_point))
                if on_point:
                    on_point(points[-1])
        if count == streams[0]:
            memory["peak"] = max(0, resident_memory() - before)
    return LatencyProfile(
        engine_key=engine_key, target=first.target, precision=first.precision, device=first.device,
        architecture=cpu_architecture(), threads=threads, exclusive=exclusive,
        num_inference_steps=spec.num_inference_steps, guided=spec.guidance_scale > 1, load_seconds=load_seconds,
        memory=memory, points=tuple(points),
    )  # fmt: skip


def example_inputs(model_folder: Path | str, engine: Engine, batch: int) -> dict[str, Arrays]:
    """Inputs of the right shapes for every network that `engine` has, at the model's default size."""
    spec, tokenizer = read_spec(model_folder), load_tokenizer(model_folder)
    shape = latent_layout(model_folder).shape(spec.num_frames, spec.height, spec.width)
    latents = np.random.default_rng(0).standard_normal((batch, *shape), dtype=np.float32)
    text = dict(zip(("input_ids", "attention_mask"), tokenizer([""] * batch), strict=True))
    embeds = engine.run("text_encoder", text)["embeds"]
    inputs: dict[str, Arrays] = {
        "text_encoder": text,
        "denoiser": {"latents": latents, "timestep": np.full(batch, 500, np.float32), "embeds": embeds},
        "decoder": {"latents": latents},
        "sampler": {"noise": latents, "embeds": embeds},
    }
    return {name: inputs[name] for name in engine.networks}


def _measure(
    engine: Engine, network: str, inputs: Arrays, batch: int, streams: int, seconds_per_point: float
) -> LatencyPoint:
    barrier = threading.Barrier(streams)

    def work() -> list[float]:
        engine.run(network, inputs)
        barrier.wait()
        taken, end = [], time.perf_counter() + seconds_per_point
        while len(taken) < 3 or time.perf_counter() < end:
            started = time.perf_counter()
            engine.run(network, inputs)
            taken.append(time.perf_counter() - started)
        return taken

    with ThreadPoolExecutor(streams) as pool:
        times = [t for future in [pool.submit(work) for _ in range(streams)] for t in future.result()]
    ordered = sorted(times)
    p90 = ordered[max(0, math.ceil(0.9 * len(ordered)) - 1)]
    return LatencyPoint(network, batch, streams, statistics.median(ordered), p90, len(ordered))


def resident_memory() -> int:
    """Bytes of this process in physical memory, 0 where the system does not say."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0
