"""What a model makes when a request leaves a field open, and what a request may ask of it."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from videogen.errors import ArtifactCorrupt, ArtifactMissing

SPEC_FILE = "videogen.json"

SigmaSchedule = Literal["uniform", "scheduler"]
"""`uniform`: sigmas N/N, (N-1)/N, ... 1/N before the scheduler's shift; `scheduler`: the scheduler's own default."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The defaults and limits of one model version.

    `width`, `height` are in pixels, `fps` in frames per second. A guidance scale of 1.0 means one denoiser call per
    step, above it two. `max_sequence_length` is the number of tokens that a prompt is padded to.
    """

    name: str
    family: Literal["wan"] = "wan"
    width: int = 64
    height: int = 64
    num_frames: int = 16
    fps: int = 8
    num_inference_steps: int = 20
    guidance_scale: float = 2.5
    max_prompt_words: int = 20
    widths: tuple[int, ...] = (64,)
    heights: tuple[int, ...] = (64,)
    frames: tuple[int, ...] = (16,)
    max_num_inference_steps: int = 50
    max_guidance_scale: float = 10.0
    sigma_schedule: SigmaSchedule = "uniform"
    max_sequence_length: int = 20

    def to_json(self) -> str:
        """The text of `videogen.json`."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"


def read_spec(folder: Path | str) -> ModelSpec:
    """The spec of the model in `folder`: its `videogen.json`, or for a plain diffusers Wan folder what its configs say.

    Raises ArtifactMissing where there is no model, ArtifactCorrupt where a file does not parse or holds a field that
    does not exist or a value of the wrong type.
    """
    folder = Path(folder)
    if (folder / SPEC_FILE).exists():
        return _checked(_read_json(folder / SPEC_FILE), folder / SPEC_FILE)
    return _derived(folder)


def write_spec(folder: Path | str, spec: ModelSpec) -> None:
    """Writes `videogen.json` into `folder`."""
    (Path(folder) / SPEC_FILE).write_text(spec.to_json())


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ArtifactMissing(f"{path} does not exist: {path.parent} is not a model in diffusers' folder form")
    try:
        stored = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(f"{path} is not JSON: {error}") from error
    if not isinstance(stored, dict):
        raise ArtifactCorrupt(f"{path} holds {type(stored).__name__}, not an object")
    return stored


def _checked(stored: dict[str, Any], path: Path) -> ModelSpec:
    fields = {field.name: field for field in dataclasses.fields(ModelSpec)}
    unknown = sorted(set(stored) - set(fields))
    if unknown or "name" not in stored:
        raise ArtifactCorrupt(f"{path}: {'unknown field ' + unknown[0] if unknown else 'no field name'}")
    values = {key: _value(value, fields[key].type, f"{path}: {key}") for key, value in stored.items()}
    if values.get("family", "wan") != "wan" or values.get("sigma_schedule", "uniform") not in ("uniform", "scheduler"):
        raise ArtifactCorrupt(f"{path}: family is 'wan'; sigma_schedule is 'uniform' or 'scheduler'")
    return ModelSpec(**values)


def _value(value: Any, kind: Any, where: str) -> Any:
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind == tuple[int, ...] and isinstance(value, list) and value and all(type(v) is int and v > 0 for v in value):
        return tuple(value)
    if kind is int and type(value) is int and value > 0:
        return value
    if kind not in (int, float, tuple[int, ...]) and isinstance(value, str):
        return value
    raise ArtifactCorrupt(f"{where}: {value!r} is not a valid {getattr(kind, '__name__', kind)}")


def _derived(folder: Path) -> ModelSpec:
    """Wan as its authors run it (480p, 81 frames, 16 fps, 50 steps, guidance 5), bounded by what its VAE can code."""
    index = _read_json(folder / "model_index.json")
    vae = _read_json(folder / "vae" / "config.json")
    multiple = 2 * int(vae.get("scale_factor_spatial") or 8)
    stride = int(vae.get("scale_factor_temporal") or 4)
    sizes = tuple(range(multiple, 1281, multiple))
    return ModelSpec(
        name=str(index.get("_name_or_path") or folder.name).rsplit("/", 1)[-1],
        width=832,
        height=480,
        num_frames=80 // stride * stride + 1,
        fps=16,
        num_inference_steps=50,
        guidance_scale=5.0,
        max_prompt_words=512,
        widths=sizes,
        heights=sizes,
        frames=tuple(range(1, 162, stride)),
        max_num_inference_steps=100,
        max_guidance_scale=20.0,
        sigma_schedule="scheduler",
        max_sequence_length=512,
    )
