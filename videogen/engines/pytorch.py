"""The reference: a model's own modules, eager, in float32. It needs no build and runs any size."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from videogen.engines.base import Arrays, Precision, Target
from videogen.engines.networks import INPUTS, OUTPUTS, wrap
from videogen.models.loading import load_networks


class TorchEngine:
    """Implements `Engine`. `threads` is torch's own setting for the whole process; None leaves it as it is."""

    target: Target = "torch"
    precision: Precision = "fp32"
    shape = None
    streams = 1

    def __init__(
        self,
        folder: Path | str,
        threads: int | None = None,
        device: str = "cpu",
        sigmas: Sequence[float] = (),
        timesteps: Sequence[float] = (),
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.device, self.threads = device, torch.get_num_threads()
        self.sampler_sigmas = tuple(map(float, sigmas))
        wrapped = wrap(load_networks(folder), sigmas, timesteps)
        self._networks = {name: network.to(device) for name, network in wrapped.items()}
        self.networks = tuple(self._networks)

    def run(self, network: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        tensors = [torch.from_numpy(np.ascontiguousarray(inputs[name])).to(self.device) for name in INPUTS[network]]
        # inference_mode belongs to the thread that enters it, so every call enters its own.
        with torch.inference_mode():
            found = self._networks[network](*tensors)
        return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS[network], found, strict=True)}
