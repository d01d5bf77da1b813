"""Graphs and engines, built once per key, shared by every process, verified when they are loaded."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from videogen.artifacts import Artifacts
from videogen.engines.base import Builder, BuildReport, Engine, Precision, ShapeProfile, read_report
from videogen.engines.builders import builder_for
from videogen.engines.graphs import Graphs, read_graphs
from videogen.engines.key import EngineKey, GraphKey, exporter_versions
from videogen.models.loading import component_classes, scheduler_config
from videogen.models.schedule import Schedule, euler_schedule
from videogen.models.spec import ModelSpec, read_spec
from videogen.telling import Part, untold

GRAPH_KIND, ENGINE_KIND = "graphs", "engines"
MOST_FUSED_STEPS = 8
"""A fused sampler repeats the denoiser once per step; a long one compiles for minutes and gains nothing."""


@dataclass(frozen=True, slots=True)
class StoredGraphs:
    """A folder of graphs. `digest` is that of its manifest; `built` says whether this call made it."""

    path: Path
    key: GraphKey
    digest: str
    graphs: Graphs
    built: bool


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """A folder with an engine. `built` says whether this call made it."""

    path: Path
    key: EngineKey
    report: BuildReport
    built: bool


def default_profile(spec: ModelSpec) -> ShapeProfile:
    """The size that a model makes when nobody asks for another, at batches of 1 to 16."""
    return ShapeProfile(spec.num_frames, spec.height, spec.width)


def fused_schedule(model_folder: Path | str) -> Schedule | None:
    """The schedule of the fused sampler, for a model that by default takes few steps and no guidance."""
    spec = read_spec(model_folder)
    is_euler = component_classes(model_folder)["scheduler"][1] == "FlowMatchEulerDiscreteScheduler"
    if spec.guidance_scale > 1 or spec.num_inference_steps > MOST_FUSED_STEPS or not is_euler:
        return None
    return euler_schedule(scheduler_config(model_folder), spec.num_inference_steps, spec.sigma_schedule)


def ensure_graph(
    artifacts: Artifacts,
    model_folder: Path | str,
    weights_digest: str,
    precision: Precision = "fp32",
    profile: ShapeProfile | None = None,
    part: Part = untold,
) -> StoredGraphs:
    """The ONNX graphs of a model version, exported now if they are not there. Raises EngineBuildFailed."""
    profile, schedule = profile or default_profile(read_spec(model_folder)), fused_schedule(model_folder)
    sigmas = tuple(schedule.sigmas.tolist()) if schedule else ()
    key = GraphKey(weights_digest, precision, profile, sigmas, exporter_versions())

    def fill(folder: Path) -> None:
        from videogen.engines.export import export_onnx

        timesteps = schedule.timesteps.tolist() if schedule else ()
        export_onnx(artifacts, model_folder, folder, precision, profile, sigmas, timesteps)

    path, built = _made(artifacts, GRAPH_KIND, key.digest, fill, f"exporting the graphs in {precision}", part)
    return StoredGraphs(path, key, artifacts.manifest(GRAPH_KIND, key.digest).digest, read_graphs(path), built)


def ensure_engine(
    artifacts: Artifacts,
    model_folder: Path | str,
    weights_digest: str,
    builder: Builder,
    precision: Precision,
    part: Part = untold,
) -> StoredEngine:
    """The engine of a model version, built now if it is not there, with its graphs if need be.

    Raises EngineUnavailable where the builder or the precision is not to be had on this machine, EngineBuildFailed.
    """
    graphs = ensure_graph(artifacts, model_folder, weights_digest, builder.graph_precision[precision], part=part)
    return ensure_engine_of(artifacts, graphs, builder, precision, part)


def ensure_engine_of(
    artifacts: Artifacts, graphs: StoredGraphs, builder: Builder, precision: Precision, part: Part = untold
) -> StoredEngine:
    """As `ensure_engine`, from graphs that are there."""
    key = EngineKey(
        weights_digest=graphs.key.weights_digest, graph_digest=graphs.digest, builder=builder.target,
        builder_version=builder.version(), architecture=builder.architecture(), precision=precision,
        profile=graphs.graphs.profile,
    )  # fmt: skip

    def fill(folder: Path) -> None:
        builder.build(graphs.path, folder, key.profile, precision)

    path, built = _made(artifacts, ENGINE_KIND, key.digest, fill, f"building {builder.target} {precision}", part)
    return StoredEngine(path, key, read_report(path), built)


def _made(
    artifacts: Artifacts, kind: str, key: str, fill: Callable[[Path], None], what: str, part: Part
) -> tuple[Path, bool]:
    """As `Artifacts.build`. Before it is filled, an artifact that is there is verified and one under way waited for."""
    with ExitStack() as looking:
        looking.enter_context(part(f"{what}: looking for what is there, or is being made", if_long=True))

        def fill_it(folder: Path) -> None:
            looking.close()
            with part(what):
                fill(folder)

        return artifacts.build(kind, key, fill_it)


def load_engine(artifacts: Artifacts, key: str, threads: int = 1, streams: int = 1) -> Engine:
    """The engine of this key, every file verified first.

    Raises ArtifactMissing, ArtifactCorrupt, or EngineUnavailable where this machine cannot run it.
    """
    path = artifacts.get(ENGINE_KIND, key)
    return builder_for(read_report(path).target).load(path, threads, streams)
