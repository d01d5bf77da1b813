"""ONNX Runtime on the CPU. An engine is the graphs as its optimiser left them for this machine's vector units."""

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

QUIET = 3


class OnnxRuntimeBuilder:
    """Implements `Builder`."""

    target: Target = "onnxruntime"
    precisions: tuple[Precision, ...] = ("fp32",)
    graph_precision: ClassVar[dict[Precision, Precision]] = {"fp32": "fp32"}

    def version(self) -> str:
        return f"onnxruntime {_module().__version__}"

    def architecture(self) -> str:
        return cpu_architecture()

    def build(self, graphs: Path, out: Path, profile: ShapeProfile, precision: Precision) -> BuildReport:
        runtime, started, found = _module(), time.perf_counter(), read_graphs(graphs)
        for name in found.networks:
            options = runtime.SessionOptions()
            options.log_severity_level = QUIET
            options.optimized_model_filepath = str(out / f"{name}.onnx")
            # What onnxruntime raises for a graph it does not take is one class per status code.
            try:
                runtime.InferenceSession(str(graphs / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            except Exception as error:
                raise EngineBuildFailed(f"onnxruntime refused {name}: {error}") from error
        kinds = {name: _layers(out / f"{name}.onnx") for name in found.networks}
        report = BuildReport(
            target=self.target, precision=precision, builder_version=self.version(), architecture=self.architecture(),
            profile=profile, seconds=time.perf_counter() - started, size=folder_size(out),
            layers={name: sum(found.values()) for name, found in kinds.items()}, layer_kinds=kinds,
            sampler_sigmas=found.sampler_sigmas,
        )  # fmt: skip
        (out / ENGINE_FILE).write_text(report.to_json())
        return report

    def load(self, folder: Path, threads: int = 1, streams: int = 1) -> "OnnxRuntimeEngine":
        return OnnxRuntimeEngine(folder, threads, streams)


class OnnxRuntimeEngine:
    """Implements `Engine`. A session runs each call on the threads of its own pool, so callers are the streams."""

    target: Target = "onnxruntime"

    def __init__(self, folder: Path, threads: int = 1, streams: int = 1) -> None:
        runtime, report = _module(), read_report(folder)
        self.precision, self.shape = report.precision, report.profile
        self.threads, self.streams, self.device = threads, streams, cpu_name()
        self.sampler_sigmas, self.networks = report.sampler_sigmas, tuple(report.layers)
        if report.architecture != cpu_architecture():
            raise EngineUnavailable(
                f"{folder} is built for {report.architecture}; this machine is {cpu_architecture()}"
            )
        options = runtime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        # The graphs are optimised already; a spinning pool would take the cores of the other streams.
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if streams == 1 else "0")
        self._sessions: dict[str, Any] = {
            name: runtime.InferenceSession(str(folder / f"{name}.onnx"), options, providers=["CPUExecutionProvider"])
            for name in self.networks
        }

    def run(self, network: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        session = self._sessions[network]
        try:
            found = session.run(None, {name: np.ascontiguousarray(value) for name, value in inputs.items()})
        except Exception as error:  # one class per status code, as above
            raise EngineError(f"onnxruntime failed in {network}: {error}") from error
        return dict(zip((output.name for output in session.get_outputs()), found, strict=True))


def _module() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineUnavailable(f"onnxruntime is not installed: {error}") from error
    return onnxruntime


def _layers(path: Path) -> dict[str, int]:
    import onnx

    nodes = onnx.load(str(path), load_external_data=False).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())
