"""Runs a TensorRT engine on the GPU at hand, with torch's allocator and streams."""

import queue
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videogen.engines.base import Arrays, read_report
from videogen.engines.networks import OUTPUTS
from videogen.errors import EngineError, EngineUnavailable


class TensorRtEngine:
    """Implements `Engine`. Every stream has an execution context and a CUDA stream of its own."""

    threads = 1

    def __init__(self, folder: Path, trt: Any, logger: Any, streams: int = 1) -> None:
        if not torch.cuda.is_available():
            raise EngineUnavailable(f"this engine needs torch with CUDA; torch {torch.__version__} shows no GPU")
        report = read_report(folder)
        self.target, self.precision, self.shape = report.target, report.precision, report.profile
        self.streams, self.device = streams, torch.cuda.get_device_name()
        self.sampler_sigmas, self.networks = report.sampler_sigmas, tuple(report.layers)
        self._engines = {
            name: deserialised(trt.Runtime(logger), folder / f"{name}.plan", self.device, logger.errors)
            for name in self.networks
        }
        self._idle: dict[str, queue.SimpleQueue[Any]] = {}
        for name, engine in self._engines.items():
            self._idle[name] = queue.SimpleQueue()
            for _ in range(streams):
                self._idle[name].put((engine.create_execution_context(), torch.cuda.Stream()))

    def run(self, network: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        context, stream = self._idle[network].get()
        try:
            with torch.cuda.stream(stream):
                # Kept in a name until the stream is done: the context holds bare addresses.
                given = {name: torch.from_numpy(np.ascontiguousarray(value)).cuda() for name, value in inputs.items()}
                for name, tensor in given.items():
                    context.set_input_shape(name, tuple(tensor.shape))
                    context.set_tensor_address(name, tensor.data_ptr())
                found = {name: self._output(network, context, name) for name in OUTPUTS[network]}
                if not context.execute_async_v3(stream.cuda_stream):
                    raise EngineError(f"TensorRT failed in {network}")
                return {name: tensor.cpu().numpy() for name, tensor in found.items()}
        finally:
            self._idle[network].put((context, stream))

    def _output(self, network: str, context: Any, name: str) -> torch.Tensor:
        kind = torch.uint8 if name == "frames" else torch.float32
        tensor = torch.empty(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
        context.set_tensor_address(name, tensor.data_ptr())
        return tensor


def deserialised(runtime: Any, plan: Path, device: str, errors: list[str]) -> Any:
    """The engine in `plan`. Raises EngineUnavailable with what TensorRT had logged as `errors`, its only word on it."""
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    if engine is None:
        reason = "; ".join(errors) or "it does not say why"
        raise EngineUnavailable(f"{plan}: TensorRT cannot load it on {device}: {reason}")
    return engine
