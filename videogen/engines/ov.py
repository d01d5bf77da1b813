"""OpenVINO on the CPU. An engine is its compiled form, exported; bfloat16 is a hint to its plugin."""

import queue
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from videogen.engines.base import (
    ENGINE_FILE,
    Arrays,
    BuildReport,
    Precision,
    ShapeProfile,
    Target,
    folder_size,
    read_report,
)  # fmt: skip
from videogen.engines.device import cpu_architecture, cpu_name
from videogen.engines.graphs import read_graphs
from videogen.errors import EngineBuildFailed, EngineError, EngineUnavailable

_first_use = threading.Lock()
HINTS: dict[Precision, str] = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBuilder:
    """Implements `Builder`."""

    target: Target = "openvino"
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    graph_precision: ClassVar[dict[Precision, Precision]] = {"fp32": "fp32", "bf16": "fp32"}

    def version(self) -> str:
        return f"openvino {_module().get_version().split('-')[0]}"

    def architecture(self) -> str:
        return cpu_architecture()

    def build(self, graphs: Path, out: Path, profile: ShapeProfile, precision: Precision) -> BuildReport:
        core, started, found = _module().Core(), time.perf_counter(), read_graphs(graphs)
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "bf16" and "BF16" not in able:
            raise EngineUnavailable(f"this CPU ({cpu_name()}) has no bfloat16 units; it computes in {', '.join(able)}")
        kinds = {}
        for name in found.networks:
            # OpenVINO raises RuntimeError for anything its front end or its plugin does not take.
            try:
                compiled = core.compile_model(core.read_model(graphs / f"{name}.onnx"), "CPU", _config(precision, 1, 1))
            except RuntimeError as error:
                raise EngineBuildFailed(f"openvino refused {name}: {error}") from error
            (out / f"{name}.blob").write_bytes(compiled.export_model().getvalue())
            kinds[name] = _layers(compiled)
        report = BuildReport(
            target=self.target, precision=precision, builder_version=self.version(), architecture=self.architecture(),
            profile=profile, seconds=time.perf_counter() - started, size=folder_size(out),
            layers={name: sum(found.values()) for name, found in kinds.items()}, layer_kinds=kinds,
            sampler_sigmas=found.sampler_sigmas,
        )  # fmt: skip
        (out / ENGINE_FILE).write_text(report.to_json())
        return report

    def load(self, folder: Path, threads: int = 1, streams: int = 1) -> "OpenVinoEngine":
        return OpenVinoEngine(folder, threads, streams)


class OpenVinoEngine:
    """Implements `Engine`. Each of the streams has an inference request of its own; a call waits for a free one."""

    target: Target = "openvino"

    def __init__(self, folder: Path, threads: int = 1, streams: int = 1) -> None:
        core, report = _module().Core(), read_report(folder)
        self.precision, self.shape = report.precision, report.profile
        self.threads, self.streams, self.device = threads, streams, cpu_name()
        self.sampler_sigmas, self.networks = report.sampler_sigmas, tuple(report.layers)
        if report.architecture != cpu_architecture():
            raise EngineUnavailable(
                f"{folder} is built for {report.architecture}; this machine is {cpu_architecture()}"
            )
        config = _config(report.precision, threads, streams)
        self._idle: dict[str, queue.SimpleQueue[Any]] = {}
        self._compiled: dict[str, Any] = {}
        for name in self.networks:
            self._compiled[name] = core.import_model((folder / f"{name}.blob").read_bytes(), "CPU", config)
            self._idle[name] = queue.SimpleQueue()
            for _ in range(streams):
                self._idle[name].put(self._compiled[name].create_infer_request())
        _use_once(self._compiled[min(report.layers, key=lambda name: report.layers[name])])

    def run(self, network: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        idle = self._idle[network]
        request = idle.get()
        try:
            found = request.infer({name: np.ascontiguousarray(value) for name, value in inputs.items()})
            return {output.any_name: np.array(value) for output, value in found.items()}
        except RuntimeError as error:
            raise EngineError(f"openvino failed in {network}: {error}") from error
        finally:
            idle.put(request)


def _use_once(compiled: Any) -> None:
    """One inference on zeros, while there is one thread.

    The binding makes its static tables on first use, and may give up the interpreter's lock in the midst of it: a
    second thread that comes to the same table then waits for it with that lock held, and both wait for ever.
    """
    with _first_use:
        zeros = []
        for port in compiled.inputs:
            shape = [1 if size.is_dynamic else size.get_length() for size in port.partial_shape]
            zeros.append(np.zeros(shape, port.element_type.to_dtype()))
        compiled.create_infer_request().infer(zeros)


def _config(precision: Precision, threads: int, streams: int) -> dict[str, Any]:
    return {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "NUM_STREAMS": streams,
        "INFERENCE_NUM_THREADS": threads * streams,
    }


def _module() -> Any:
    try:
        import openvino
    except ImportError as error:
        raise EngineUnavailable(f"openvino is not installed: {error}") from error
    return openvino


def _layers(compiled: Any) -> dict[str, int]:
    kinds = (str(node.get_rt_info()["layerType"].astype(str)) for node in compiled.get_runtime_model().get_ops())
    return dict(Counter(kinds).most_common())
