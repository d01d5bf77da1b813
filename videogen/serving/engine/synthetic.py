"""A device without networks: its steps take the time they are told to, its videos are real, small MP4s."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from videogen.scheduling.costs import Table
from videogen.serving.engine.messages import Synthetic, VersionToLoad
from videogen.serving.engine.versions import Version

if TYPE_CHECKING:
    from videogen.requests import AcceptedRequest

SAMPLES = 8


@dataclass(slots=True, eq=False)
class Steps:
    """A generation that only counts."""

    request: "AcceptedRequest"
    steps: int
    step_index: int = 0

    @property
    def is_done(self) -> bool:
        return self.step_index >= self.steps


class SyntheticModel:
    """Has `VideoModel`'s calls. All streams share one device: one call runs at a time."""

    def __init__(self, device: Synthetic) -> None:
        self._device, self._turn = device, threading.Lock()

    def start(self, requests: Sequence["AcceptedRequest"]) -> list[Steps]:
        return [Steps(accepted, accepted.request.num_inference_steps or 1) for accepted in requests]

    def fork(self, generation: Steps, fresh: Steps, accepted: "AcceptedRequest") -> Steps:
        return Steps(accepted, generation.steps, generation.step_index)

    def step(self, generations: Sequence[Steps], count: int = 1) -> None:
        for _ in range(count):
            live = [generation for generation in generations if not generation.is_done]
            self._take(self._device.fixed_s + self._device.each_s * len(live))
            for generation in live:
                generation.step_index += 1

    def can_sample(self, generations: Sequence[Steps]) -> bool:
        return False

    def sample(self, generations: Sequence[Steps]) -> list[int]:
        raise NotImplementedError

    def finish(self, generations: Sequence[Steps]) -> list[int]:
        """Which sample each is: another seed's is another, and so is that of what was changed meanwhile."""
        if self._device.rest_s:
            self._take(self._device.rest_s * len(generations))
        asked = [generation.request for generation in generations]
        return [((accepted.request.seed or 0) + len(accepted.changes)) % SAMPLES for accepted in asked]

    def _take(self, seconds: float) -> None:
        with self._turn:
            time.sleep(seconds)


@cache
def sample(number: int) -> bytes:
    """One of a few small MP4s, made when it is first asked for."""
    from videogen.media.mp4 import encode_mp4

    frames = np.random.default_rng(number).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    return encode_mp4(frames, 8)


def synthetic_version(version: VersionToLoad, device: Synthetic, streams: int) -> Version:
    """A version that this device serves, whatever its files are."""
    time.sleep(device.load_s)
    for number in range(SAMPLES):
        sample(number)
    step = {
        (batch, count): count * (device.fixed_s + device.each_s * batch)
        for batch in range(1, device.largest + 1)
        for count in range(1, streams + 1)
    }
    rest = {(batch, count): device.rest_s * batch * count for batch, count in step}
    table = Table(step, rest)
    return Version(
        digest=version.version_digest,
        label=version.label,
        model=SyntheticModel(device),
        encode=lambda number, fps: sample(number),
        tables={False: table, True: table},
        engine_key="synthetic",
        precision="none",
        target="synthetic",
        builder="synthetic",
        device="synthetic",
        ungated=version.ungated,
    )
