"""Chooses the CPU's engine by measurement: the fastest whose videos are those of the float32 reference."""

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from videogen.artifacts import Artifacts
from videogen.engines.base import Engine, Precision, Target
from videogen.engines.builders import CPU_CANDIDATES, builder_for
from videogen.engines.cache import ensure_engine, load_engine
from videogen.engines.device import available_cores, cpu_architecture, cpu_name
from videogen.engines.fidelity import Fidelity, Reference, fidelity, reference_frames
from videogen.errors import EngineBuildFailed, EngineError, EngineUnavailable, GenerationFailed
from videogen.generate import Generator
from videogen.models.wan import WanModel
from videogen.requests import AcceptedRequest
from videogen.telling import Part, untold


class Limits(Protocol):
    """What decides whether an engine may serve."""

    def refusal(self, found: Fidelity, /) -> str | None:
        """Why it may not, None if it may."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One engine that was tried. `refusal` says why it may not serve, None if it may.

    `seconds_per_video` is the median over rounds in which all candidates took turns, `streams` running at once.
    """

    target: Target
    precision: Precision
    engine_key: str | None = None
    build_seconds: float | None = None
    size: int | None = None
    seconds_per_video: float | None = None
    mean_psnr: float | None = None
    mean_ssim: float | None = None
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """What was chosen, among what, on which CPU, with how many streams of one thread."""

    chosen: Candidate
    candidates: tuple[Candidate, ...]
    cpu: str
    architecture: str
    streams: int
    fidelity: Fidelity | None = None
    """Of the chosen one."""

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def select_engine(
    artifacts: Artifacts,
    model_folder: Path | str,
    weights_digest: str,
    requests: Sequence[AcceptedRequest],
    *,
    limits: Limits,
    reference: Reference | None = None,
    candidates: Sequence[tuple[Target, Precision]] = CPU_CANDIDATES,
    streams: int | None = None,
    rounds: int = 3,
    batch_sizes: Sequence[int] = (),
    part: Part = untold,
) -> Selection:
    """Builds what is not built, compares each with the reference on `requests`, and times those that pass.

    Compared alone and in batches of each of `batch_sizes`; timed with the requests shared out over the streams, as
    many to a call as that makes. Raises EngineUnavailable, with every reason, when none passes.
    """
    streams = streams or available_cores()
    if reference is None:
        with part(f"making the reference's {len(requests)} videos with PyTorch") as count:
            reference = reference_frames(model_folder, requests, count)
    tried, engines, proofs = [], {}, {}
    for target, precision in candidates:
        candidate = Candidate(target, precision)
        try:
            stored = ensure_engine(artifacts, model_folder, weights_digest, builder_for(target), precision, part)
            engine = load_engine(artifacts, stored.key.digest, threads=1, streams=streams)
        except (EngineUnavailable, EngineBuildFailed) as error:
            tried.append(dataclasses.replace(candidate, refusal=str(error)))
            continue
        report = stored.report
        candidate = dataclasses.replace(
            candidate, engine_key=stored.key.digest, build_seconds=report.seconds, size=report.size
        )
        try:
            with part(f"comparing the videos of {target} {precision} with the reference's") as count:
                found = fidelity(model_folder, engine, requests, reference, batch_sizes, count)
        except (EngineError, GenerationFailed) as error:
            tried.append(dataclasses.replace(candidate, refusal=str(error)))
            continue
        tried.append(_judged(candidate, found, limits))
        if tried[-1].refusal is None:
            proofs[stored.key.digest] = found
            engines[stored.key.digest] = engine
    batch_size = max(1, len(requests) // streams)
    if engines:
        with part("timing the engines that may serve"):
            tried = _timed(tried, engines, model_folder, requests, rounds, batch_size)
    return _choose(tried, proofs, streams)


def _judged(candidate: Candidate, found: Fidelity, limits: Limits) -> Candidate:
    refusal = limits.refusal(found)
    return dataclasses.replace(candidate, mean_psnr=found.mean_psnr, mean_ssim=found.mean_ssim, refusal=refusal)


def _timed(
    tried: list[Candidate],
    engines: dict[str, Engine],
    model_folder: Path | str,
    requests: Sequence[AcceptedRequest],
    rounds: int,
    batch_size: int,
) -> list[Candidate]:
    models, seconds = {k: WanModel(model_folder, e) for k, e in engines.items()}, {k: [] for k in engines}
    # Turn by turn, so that a busy minute of the machine falls on all of them. Fidelity has warmed them up.
    for _ in range(rounds):
        for key, model in models.items():
            started = time.perf_counter()
            made = sum(1 for _ in Generator(model, batch_size).generate(requests))
            seconds[key].append((time.perf_counter() - started) / made)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return [dataclasses.replace(c, seconds_per_video=medians.get(c.engine_key or "")) for c in tried]


def _choose(candidates: list[Candidate], proofs: dict[str, Fidelity], streams: int) -> Selection:
    passing = [c for c in candidates if c.refusal is None]
    if not passing:
        reasons = "; ".join(f"{c.target} {c.precision}: {c.refusal}" for c in candidates)
        raise EngineUnavailable(f"no engine for the CPU may serve: {reasons}")
    chosen = min(passing, key=lambda c: c.seconds_per_video or float("inf"))
    found = proofs.get(chosen.engine_key or "")
    return Selection(chosen, tuple(candidates), cpu_name(), cpu_architecture(), streams, found)
