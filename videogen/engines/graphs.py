"""What stands in a folder of ONNX graphs: one `<network>.onnx` each, and `graphs.json`, which this module reads."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from videogen.engines.base import Precision, ShapeProfile
from videogen.errors import ArtifactCorrupt
from videogen.models.loading import read_json

GRAPHS_FILE = "graphs.json"


@dataclass(frozen=True, slots=True)
class Graphs:
    """`inputs` are shapes, "batch" for the dynamic one; `sampler_sigmas` those of the fused sampler, if any."""

    networks: tuple[str, ...]
    precision: Precision
    profile: ShapeProfile
    sampler_sigmas: tuple[float, ...]
    inputs: dict[str, dict[str, list[int | str]]]

    def write(self, folder: Path) -> None:
        (folder / GRAPHS_FILE).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n")


def read_graphs(folder: Path) -> Graphs:
    """Raises ArtifactMissing or ArtifactCorrupt, naming the file."""
    stored = read_json(folder / GRAPHS_FILE)
    try:
        stored["profile"] = ShapeProfile(**stored["profile"])
        return Graphs(**stored | {name: tuple(stored[name]) for name in ("networks", "sampler_sigmas")})
    except (KeyError, TypeError) as error:
        raise ArtifactCorrupt(f"{folder / GRAPHS_FILE}: {error}") from error
