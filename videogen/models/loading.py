"""Reads a model in diffusers' folder form: named classes from an allow-list, safetensors, never a model's own code."""

import importlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused

if TYPE_CHECKING:
    from torch import nn

ALLOWED: dict[str, dict[tuple[str, str], str]] = {
    "transformer": {("diffusers", "WanTransformer3DModel"): "diffusers"},
    "vae": {
        ("diffusers", "AutoencoderKLWan"): "diffusers",
        ("videogen", "TinyVideoAutoencoder"): "videogen.models.tiny_autoencoder",
    },
    "text_encoder": {
        ("transformers", "UMT5EncoderModel"): "transformers",
        ("videogen", "TinyTextEncoder"): "videogen.models.tiny_text_encoder",
    },
    "tokenizer": {
        ("transformers", "T5Tokenizer"): "videogen.models.wan_text:WanTokenizer",
        ("transformers", "T5TokenizerFast"): "videogen.models.wan_text:WanTokenizer",
        ("videogen", "TinyTokenizer"): "videogen.models.tiny_tokenizer",
    },
    "scheduler": {
        ("diffusers", "FlowMatchEulerDiscreteScheduler"): "diffusers",
        ("diffusers", "UniPCMultistepScheduler"): "diffusers",
    },
}
"""Component -> (library, class) as `model_index.json` writes it -> the module that holds the class."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


@dataclass(frozen=True, slots=True)
class LatentLayout:
    """How an autoencoder's latents (channels, t, h, w) lie over frames. `first_frame_alone`: T = stride (t - 1) + 1."""

    channels: int
    frames_per_latent: int
    pixels_per_latent: int
    first_frame_alone: bool

    def shape(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """The latents' shape of a video of that size."""
        extra = 1 if self.first_frame_alone else 0
        frames = (num_frames - extra) // self.frames_per_latent + extra
        return self.channels, frames, height // self.pixels_per_latent, width // self.pixels_per_latent


@dataclass(frozen=True, slots=True)
class Networks:
    """The three networks of a model, as eager modules in evaluation mode."""

    text_encoder: "nn.Module"
    transformer: "nn.Module"
    vae: "nn.Module"


def component_classes(folder: Path | str) -> dict[str, tuple[str, str]]:
    """Component -> (library, class), all of them allowed.

    Raises ArtifactMissing without `model_index.json` or a component, ArtifactRefused for a class outside the list.
    """
    index = read_json(Path(folder) / "model_index.json")
    if any(index.get("transformer_2") or [None]) or index.get("expand_timesteps"):
        raise ArtifactRefused(f"{folder}: Wan 2.2 models (two transformers, or a timestep per token) are not supported")
    found: dict[str, tuple[str, str]] = {}
    for component, allowed in ALLOWED.items():
        entry = index.get(component)
        if not isinstance(entry, list) or len(entry) != 2:
            raise ArtifactMissing(f"{folder}: model_index.json names no {component}")
        if tuple(entry) not in allowed:
            names = ", ".join(f"{library}.{name}" for library, name in allowed)
            raise ArtifactRefused(f"{folder}: {component} is {entry[0]}.{entry[1]}; allowed: {names}")
        found[component] = (entry[0], entry[1])
    return found


def load_tokenizer(folder: Path | str) -> Any:
    """The tokenizer: texts -> (input_ids, attention_mask), int64 (B, L)."""
    return _class(folder, "tokenizer").from_pretrained(_present(Path(folder) / "tokenizer"))


def scheduler_config(folder: Path | str) -> dict[str, Any]:
    """The scheduler's config, as diffusers wrote it."""
    return read_json(Path(folder) / "scheduler" / "scheduler_config.json")


def load_networks(folder: Path | str) -> Networks:
    """Text encoder, denoiser and autoencoder in float32 (whatever they are stored in), in evaluation mode.

    Raises ArtifactMissing, ArtifactRefused (a pickle), or ArtifactCorrupt (damaged, or not the weights of its config).
    """
    return Networks(*(_load_network(Path(folder), name) for name in ("text_encoder", "transformer", "vae")))


def latent_layout(folder: Path | str) -> LatentLayout:
    """The latents' layout, from the configs alone."""
    channels = int(read_json(Path(folder) / "transformer" / "config.json").get("in_channels", 16))
    if component_classes(folder)["vae"][0] == "videogen":
        # Written out, for importing TinyVideoAutoencoder would import torch and diffusers.
        return LatentLayout(channels, frames_per_latent=4, pixels_per_latent=8, first_frame_alone=False)
    vae = read_json(Path(folder) / "vae" / "config.json")
    temporal, spatial = vae.get("scale_factor_temporal") or 4, vae.get("scale_factor_spatial") or 8
    return LatentLayout(channels, temporal, spatial, first_frame_alone=True)


def read_json(path: Path) -> dict[str, Any]:
    """One JSON object. Raises ArtifactMissing or ArtifactCorrupt, naming the file."""
    try:
        stored = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ArtifactMissing(f"{path} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ArtifactCorrupt(f"{path} is not JSON: {error}") from error
    if not isinstance(stored, dict):
        raise ArtifactCorrupt(f"{path} holds {type(stored).__name__}, not an object")
    return stored


def _class(folder: Path | str, component: str) -> Any:
    entry = component_classes(folder)[component]
    module, _, name = ALLOWED[component][entry].partition(":")
    return getattr(importlib.import_module(module), name or entry[1])


def _present(path: Path) -> Path:
    if not path.is_dir():
        raise ArtifactMissing(f"{path} does not exist")
    return path


def _load_network(folder: Path, component: str) -> "nn.Module":
    import torch

    kind, path = _class(folder, component), _present(folder / component)
    _check_weights(path)
    # from_pretrained raises OSError, ValueError, RuntimeError or SafetensorError by what is wrong with the files; all
    # mean one thing to a caller, and none of them is swallowed.
    try:
        network, info = kind.from_pretrained(
            str(path), use_safetensors=True, local_files_only=True, output_loading_info=True, torch_dtype=torch.float32
        )
    except Exception as error:
        raise ArtifactCorrupt(f"{path}: {kind.__name__} cannot be loaded: {error}") from error
    wrong = [f"{kind} {sorted(map(str, info[kind]))[0]}" for kind in ("missing_keys", "mismatched_keys") if info[kind]]
    if wrong:
        raise ArtifactCorrupt(f"{path}: the weights are not those of config.json: {', '.join(wrong)}")
    return network.float().eval().requires_grad_(False)


def _check_weights(path: Path) -> None:
    if not list(path.glob("*.safetensors")):
        pickles = sorted(p.name for p in path.iterdir() if p.suffix in PICKLES)
        if pickles:
            raise ArtifactRefused(f"{path / pickles[0]} is a pickle; only safetensors are read")
        raise ArtifactMissing(f"{path} holds no safetensors")
