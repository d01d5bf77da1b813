"""What runs a model's networks, and what builds such a runner."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal, Protocol

import numpy as np

from videogen.errors import ArtifactCorrupt, ArtifactMissing

Target = Literal["torch", "onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"]
Precision = Literal["fp32", "bf16", "fp16"]
Arrays = dict[str, np.ndarray]

ENGINE_FILE = "engine.json"


@dataclass(frozen=True, slots=True)
class ShapeProfile:
    """The sizes that a graph or an engine is made for: fixed frames, height and width, a range of batch sizes."""

    num_frames: int
    height: int
    width: int
    batch_min: int = 1
    batch_opt: int = 4
    batch_max: int = 16

    def __str__(self) -> str:
        batch = f"{self.batch_min}-{self.batch_opt}-{self.batch_max}"
        return f"{self.num_frames}x{self.height}x{self.width}b{batch}"


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build gave: `seconds` of wall time, `size` in bytes of its files, `layers` per network.

    Layers are those that the runtime will execute; TensorRT shows them only on a GPU, so its are those it parsed.
    """

    target: Target
    precision: Precision
    builder_version: str
    architecture: str
    profile: ShapeProfile
    seconds: float
    size: int
    layers: dict[str, int]
    layer_kinds: dict[str, dict[str, int]] = field(default_factory=dict)
    sampler_sigmas: tuple[float, ...] = ()

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_report(folder: Path) -> BuildReport:
    """The report that stands in an engine's folder. Raises ArtifactMissing or ArtifactCorrupt."""
    path = Path(folder) / ENGINE_FILE
    try:
        stored = json.loads(path.read_text())
        profile = ShapeProfile(**stored.pop("profile"))
        return BuildReport(profile=profile, sampler_sigmas=tuple(stored.pop("sampler_sigmas")), **stored)
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} does not exist: not an engine") from error
    except (ValueError, TypeError, KeyError) as error:
        raise ArtifactCorrupt(f"{path} is not an engine's report: {error}") from error


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


class Engine(Protocol):
    """Runs the networks of one model. `run` may be called from several threads at once."""

    target: Target
    precision: Precision
    device: str
    threads: int
    streams: int
    """How many calls run at once; more wait. 1 for the reference."""
    networks: tuple[str, ...]
    shape: ShapeProfile | None
    """None where any size runs."""
    sampler_sigmas: tuple[float, ...]
    """The N + 1 sigmas of the "sampler" network, empty where there is none."""

    def run(self, network: str, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Named arrays in, named arrays out, as `videogen/engines/networks.py` lists them.

        Raises EngineError when the runtime fails.
        """
        ...


class Builder(Protocol):
    """Makes engines for one target out of a folder of ONNX graphs."""

    target: Target
    precisions: tuple[Precision, ...]
    graph_precision: ClassVar[dict[Precision, Precision]]
    """Engine precision -> the precision of the graph it is built from."""

    def version(self) -> str:
        """The builder's package and version. Raises EngineUnavailable where it is not installed."""
        ...

    def architecture(self) -> str:
        """What the engine is built for: two machines of the same name can share it."""
        ...

    def build(self, graphs: Path, out: Path, profile: ShapeProfile, precision: Precision) -> BuildReport:
        """Writes the engine's files and its report into `out`. Raises EngineUnavailable or EngineBuildFailed."""
        ...

    def load(self, folder: Path, threads: int = 1, streams: int = 1) -> Engine:
        """An engine that runs up to `streams` calls at once, each on `threads` threads. Raises EngineUnavailable."""
        ...
