"""How near an engine's videos are to those of torch in float32, at the same prompt and seed."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from videogen.engines.base import Engine, Precision, Target
from videogen.errors import GenerationFailed
from videogen.generate import Clip, Generator
from videogen.models.wan import WanModel
from videogen.quality.psnr import psnr
from videogen.quality.ssim import ssim
from videogen.requests import AcceptedRequest, Request, accept
from videogen.telling import Count, uncounted

Reference = dict[str, np.ndarray]
"""Request id -> the frames that torch gives in float32."""


@dataclass(frozen=True, slots=True)
class ClipFidelity:
    """One clip against its reference: PSNR in dB (100 when equal) and SSIM."""

    prompt: str
    seed: int
    psnr: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Fidelity:
    """All clips of one engine."""

    target: Target
    precision: Precision
    clips: tuple[ClipFidelity, ...]

    @property
    def worst_psnr(self) -> float:
        return min(clip.psnr for clip in self.clips)

    @property
    def mean_psnr(self) -> float:
        return float(np.mean([clip.psnr for clip in self.clips]))

    @property
    def worst_ssim(self) -> float:
        return min(clip.ssim for clip in self.clips)

    @property
    def mean_ssim(self) -> float:
        return float(np.mean([clip.ssim for clip in self.clips]))

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


class _Tally:
    def __init__(self, count: Count, total: int) -> None:
        self._count, self._done, self._total = count, 0, total

    def one_more(self) -> None:
        self._done += 1
        self._count(self._done, self._total)


def fidelity_requests(model_folder: Path | str, prompts: Sequence[str], seeds: Sequence[int]) -> list[AcceptedRequest]:
    """One request per prompt and its seed, at the model's own defaults."""
    from videogen.models.spec import read_spec

    spec = read_spec(model_folder)
    return [
        accept(Request(prompt=prompt, seed=seed), spec, "fidelity") for prompt, seed in zip(prompts, seeds, strict=True)
    ]


def reference_frames(
    model_folder: Path | str, requests: Sequence[AcceptedRequest], count: Count = uncounted
) -> Reference:
    """The videos of eager torch in float32. Computed once, they serve to judge every engine."""
    from videogen.engines.pytorch import TorchEngine

    return _frames(WanModel(model_folder, TorchEngine(model_folder)), requests, _Tally(count, len(requests)))


def fidelity(
    model_folder: Path | str,
    engine: Engine,
    requests: Sequence[AcceptedRequest],
    reference: Reference | None = None,
    batch_sizes: Sequence[int] = (),
    count: Count = uncounted,
) -> Fidelity:
    """Generates `requests` with `engine` and compares clip by clip. Raises what a request failed with.

    Each alone in its batch, and the first ones again in a full batch of each of `batch_sizes` on every stream. Of an
    engine with a fused sampler the first one is made step by step too, as those are that join a batch: of a clip that
    was made several times the worst counts.
    """
    reference = reference_frames(model_folder, requests) if reference is None else reference
    model = WanModel(model_folder, engine)
    together_in_all = engine.streams * sum(len(requests[:size]) for size in batch_sizes)
    tally = _Tally(count, len(requests) + together_in_all + len(requests[:1] if engine.sampler_sigmas else ()))
    found = {name: [frames] for name, frames in _frames(model, requests, tally).items()}
    for size in batch_sizes:
        together, streams = requests[:size], range(engine.streams)
        copies = [one.model_copy(update={"id": f"{one.id} {stream}"}) for stream in streams for one in together]
        for name, frames in _frames(model, copies, tally, size).items():
            found[name.rpartition(" ")[0]].append(frames)
    if engine.sampler_sigmas:
        for name, frames in _frames(model, requests[:1], tally, fused=False).items():
            found[name].append(frames)
    clips = tuple(
        ClipFidelity(
            accepted.request.prompt,
            accepted.request.seed or 0,
            min(psnr(frames, reference[accepted.id]) for frames in found[accepted.id]),
            min(ssim(frames, reference[accepted.id]) for frames in found[accepted.id]),
        )
        for accepted in requests
    )
    return Fidelity(engine.target, engine.precision, clips)


def _frames(
    model: WanModel, requests: Sequence[AcceptedRequest], tally: _Tally, batch_size: int = 1, *, fused: bool = True
) -> Reference:
    found: Reference = {}
    for outcome in Generator(model, batch_size, fused=fused).generate(requests):
        if not isinstance(outcome, Clip):
            raise outcome.error
        if outcome.timings.batch < batch_size:
            raise GenerationFailed(f"a batch of {batch_size} failed, though its requests are answered one by one")
        found[outcome.request.id] = outcome.frames
        tally.one_more()
    return found
