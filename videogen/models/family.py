"""What a family of video models can do, whatever its architecture: start, step a batch, preview, finish."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from videogen.models.schedule import Schedule
from videogen.models.spec import ModelSpec

if TYPE_CHECKING:
    from videogen.engines.base import Engine
    from videogen.requests import AcceptedRequest


@dataclass(frozen=True, slots=True, eq=False)
class Conditioning:
    """What the steps from `step` on are guided by. `negative` is None without guidance."""

    step: int
    embeds: np.ndarray
    negative: np.ndarray | None
    guidance_scale: float


@dataclass(slots=True, eq=False)
class Generation:
    """One video on its way. `latents` is (C, t, h, w); the last of `conditioning` that has begun counts.

    `estimate` is what the last step took the finished latents to be, `solver` the state of a multistep scheduler.
    """

    request: "AcceptedRequest"
    conditioning: tuple[Conditioning, ...]
    latents: np.ndarray
    schedule: Schedule
    step_index: int = 0
    estimate: np.ndarray | None = None
    solver: Any = None

    @property
    def current(self) -> Conditioning:
        """What its next step is guided by."""
        return [one for one in self.conditioning if one.step <= self.step_index][-1]

    @property
    def steps(self) -> int:
        return len(self.schedule.timesteps)

    @property
    def is_done(self) -> bool:
        return self.step_index >= self.steps

    @property
    def progress(self) -> float:
        """The share of denoising steps taken, in [0, 1]."""
        return self.step_index / self.steps


class VideoModel(Protocol):
    """A model and the engine that runs it. Its methods may be called from several threads at once.

    A batch is any set of generations of one latent shape: they may stand at different steps, and each gives the
    video that it would give alone.
    """

    spec: ModelSpec
    engine: "Engine"

    def start(self, requests: Sequence["AcceptedRequest"]) -> list[Generation]:
        """Encodes the prompts, also those of later steps, and draws each request's noise from its own seed.

        Raises InvalidRequest for a prompt the model cannot read or a size the engine is not made for.
        """
        ...

    def fork(self, generation: Generation, fresh: Generation, accepted: "AcceptedRequest") -> Generation:
        """A copy of `generation` that goes on as `accepted` says, whose texts `fresh` was started with.

        `accepted` has one change more than the generation's request, at its next step or later. Call it between steps.
        """
        ...

    def step(self, generations: Sequence[Generation], count: int = 1) -> None:
        """Takes `count` denoising steps with each generation that is not done, one denoiser call per step."""
        ...

    def can_sample(self, generations: Sequence[Generation]) -> bool:
        """Can `sample` take all the remaining steps of these in one call?"""
        ...

    def sample(self, generations: Sequence[Generation]) -> list[np.ndarray]:
        """All steps and the decoder at once: what `step` until done and `finish` give, sooner."""
        ...

    def preview(self, generation: Generation) -> np.ndarray:
        """What the video would look like by now: uint8 (T, H, W, 3)."""
        ...

    def finish(self, generations: Sequence[Generation]) -> list[np.ndarray]:
        """Decodes to frames: uint8 (T, H, W, 3) each. Raises GenerationFailed if one came out as NaN."""
        ...
