"""TensorRT: one code path over two packages of one API, `tensorrt` (server GPUs) and `tensorrt_rtx` (ahead of time).

Both are strongly typed: the precision is the graph's, no builder flag changes it. TensorRT-RTX needs no GPU to build
and makes one engine for several architectures; TensorRT builds on, and for, the GPU that will run it.
"""

import importlib
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from videogen.engines.base import ENGINE_FILE, BuildReport, Precision, ShapeProfile, Target, folder_size
from videogen.engines.cuda import compute_capability
from videogen.engines.graphs import Graphs, read_graphs
from videogen.errors import EngineBuildFailed, EngineUnavailable

if TYPE_CHECKING:
    from videogen.engines.tensorrt_run import TensorRtEngine

MODULES: dict[Target, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
INSTALL: dict[Target, str] = {
    "tensorrt": "pip install '.[tensorrt]' --extra-index-url https://pypi.nvidia.com",
    "tensorrt-rtx": "pip install '.[tensorrt-rtx]'",
}
PORTABLE = ("SM80", "SM86", "SM89", "SM120")
"""What a TensorRT-RTX engine is made for: Ampere, Ada, Blackwell. It neither builds for nor runs on Hopper (SM90)."""


class TensorRtBuilder:
    """Implements `Builder` for "tensorrt" or "tensorrt-rtx"."""

    precisions: tuple[Precision, ...] = ("fp32", "fp16")
    graph_precision: ClassVar[dict[Precision, Precision]] = {"fp32": "fp32", "fp16": "fp16"}

    def __init__(self, target: Target) -> None:
        self.target: Target = target

    def version(self) -> str:
        return f"{self.target} {trt_module(self.target).__version__}"

    def architecture(self) -> str:
        if self.target == "tensorrt-rtx":
            return "+".join(name.lower() for name in PORTABLE)
        return "sm{}{}".format(*compute_capability())

    def build(self, graphs: Path, out: Path, profile: ShapeProfile, precision: Precision) -> BuildReport:
        started, found, architecture = time.perf_counter(), read_graphs(graphs), self.architecture()
        kinds = {}
        for name in found.networks:
            plan, kinds[name] = self._build_network(name, graphs, found, profile)
            (out / f"{name}.plan").write_bytes(plan)
        report = BuildReport(
            target=self.target, precision=precision, builder_version=self.version(), architecture=architecture,
            profile=profile, seconds=time.perf_counter() - started, size=folder_size(out),
            layers={name: sum(found.values()) for name, found in kinds.items()}, layer_kinds=kinds,
            sampler_sigmas=found.sampler_sigmas,
        )  # fmt: skip
        (out / ENGINE_FILE).write_text(report.to_json())
        return report

    def _build_network(
        self, name: str, graphs: Path, found: Graphs, profile: ShapeProfile
    ) -> tuple[memoryview, dict[str, int]]:
        """The serialised engine of one network, and its layers by kind, as parsed: fused ones show only on a GPU."""
        trt = trt_module(self.target)
        logger = error_log(trt)
        builder = trt.Builder(logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, logger)
        if not parser.parse_from_file(str(graphs / f"{name}.onnx")):
            errors = "; ".join(str(parser.get_error(i)) for i in range(parser.num_errors))
            raise EngineBuildFailed(f"{self.target} cannot parse {name}: {errors}")
        config = builder.create_builder_config()
        config.add_optimization_profile(_optimisation_profile(builder, found, name, profile))
        if self.target == "tensorrt-rtx":
            config.num_compute_capabilities = len(PORTABLE)
            for index, capability in enumerate(PORTABLE):
                config.set_compute_capability(getattr(trt.ComputeCapability, capability), index)
        plan = builder.build_serialized_network(network, config)
        if plan is None:
            raise EngineBuildFailed(
                f"{self.target} cannot build {name}: {'; '.join(logger.errors) or 'it does not say why'}"
            )
        types = (network.get_layer(index).type.name.lower() for index in range(network.num_layers))
        return memoryview(plan), dict(Counter(types).most_common())

    def load(self, folder: Path, threads: int = 1, streams: int = 1) -> "TensorRtEngine":
        compute_capability()  # says at once where there is no GPU
        from videogen.engines.tensorrt_run import TensorRtEngine

        trt = trt_module(self.target)
        return TensorRtEngine(folder, trt, error_log(trt), streams)


def trt_module(target: Target) -> Any:
    """The package's module. Raises EngineUnavailable, saying how it is installed."""
    try:
        return importlib.import_module(MODULES[target])
    except ImportError as error:
        raise EngineUnavailable(f"{target} is not installed ({error}); {INSTALL[target]}") from error


def _optimisation_profile(builder: Any, found: Graphs, name: str, profile: ShapeProfile) -> Any:
    optimisation = builder.create_optimization_profile()
    for given, (_, *rest) in found.inputs[name].items():
        sizes = (profile.batch_min, profile.batch_opt, profile.batch_max)
        optimisation.set_shape(given, *((batch, *rest) for batch in sizes))
    return optimisation


def error_log(trt: Any) -> Any:
    """A TensorRT logger that keeps errors for the exception that will name them, and drops the rest."""

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message.strip())

    return Logger()
