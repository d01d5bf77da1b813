"""What the peers' workers call for a batch: a device whose steps take a known time, or videogen's own engine."""

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any


def settings() -> dict[str, Any]:
    """What the benchmark told this server."""
    return json.loads(os.environ["PEER"])


class Synthetic:
    """A step on B videos takes `fixed_s` + `each_s`·B seconds. All workers share one device: one step at a time.

    A batch goes on until the longest of it is done; those that are done take no part in further steps.
    """

    def __init__(self, told: dict[str, Any]) -> None:
        self._fixed_s, self._each_s = told["fixed_s"], told["each_s"]
        self._video = Path(told["sample"]).read_bytes()
        self._turn = os.open(told["turn"], os.O_RDWR | os.O_CREAT)
        self._next = os.open(told["turn"] + "-next", os.O_RDWR | os.O_CREAT)

    def make(self, wishes: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """An MP4 for each prompt, seed and number of steps."""
        for step in range(max(steps for _, _, steps in wishes)):
            with self._alone():
                time.sleep(self._fixed_s + self._each_s * sum(steps > step for _, _, steps in wishes))
        return [self._video] * len(wishes)

    @contextlib.contextmanager
    def _alone(self) -> Generator[None]:
        """Two workers that both want the device take turns: who waits for it has the second lock meanwhile."""
        fcntl.flock(self._next, fcntl.LOCK_EX)
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        fcntl.flock(self._next, fcntl.LOCK_UN)
        try:
            yield
        finally:
            fcntl.flock(self._turn, fcntl.LOCK_UN)


class Engine:
    """The shipped model on the engine that `videogen serve` has, one stream of it."""

    def __init__(self, told: dict[str, Any]) -> None:
        from tests.benchmarks.shared import shipped
        from videogen.manifest import build_manifest
        from videogen.models.loading import load_tokenizer

        folder = Path(told["model"])
        self._generator = shipped(folder.name, streams=1, batch_size=told["batch"])
        self._digest, self._words = build_manifest(folder).digest, load_tokenizer(folder).vocabulary
        self.make([("a large red ring moving left", number, 4) for number in range(told["batch"])])

    def make(self, wishes: Sequence[tuple[str, int, int]]) -> list[bytes]:
        """An MP4 for each prompt, seed and number of steps. Raises VideogenError if one can't be made."""
        from videogen.generate import Clip
        from videogen.media.mp4 import encode_mp4
        from videogen.requests import Request, accept

        spec, accepted = self._generator.model.spec, []
        for prompt, seed, steps in wishes:
            request = Request(prompt=prompt, seed=seed, num_inference_steps=steps)
            accepted.append(accept(request, spec, self._digest, self._words))
        videos = {}
        for outcome in self._generator.generate(accepted):
            if not isinstance(outcome, Clip):
                raise outcome.error
            videos[outcome.request.id] = encode_mp4(outcome.frames, outcome.request.request.fps or 1)
        return [videos[one.id] for one in accepted]


def device(told: dict[str, Any]) -> Synthetic | Engine:
    return Engine(told) if told["device"] == "engine" else Synthetic(told)
