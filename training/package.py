"""Puts trained parts together as a model folder in diffusers' form, float16 on disk, ready to register."""

import argparse
import json
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, WanTransformer3DModel

from training.denoiser import new_denoiser
from training.loop import load_checkpoint
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder
from videogen.models.tiny_text_encoder import TinyTextEncoder
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.world.renderer import FPS, FRAMES, SIZE

CLASSES = {
    "transformer": ["diffusers", "WanTransformer3DModel"],
    "vae": ["videogen", "TinyVideoAutoencoder"],
    "text_encoder": ["videogen", "TinyTextEncoder"],
    "tokenizer": ["videogen", "TinyTokenizer"],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
}


def spec(steps: int, guidance: float) -> dict[str, object]:
    """What `videogen.json` says: the defaults of a request, and the bounds of what one may ask."""
    return {
        "name": "videogen-tiny",
        "family": "wan",
        "width": SIZE,
        "height": SIZE,
        "num_frames": FRAMES,
        "fps": FPS,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "max_prompt_words": 19,
        "widths": [SIZE],
        "heights": [SIZE],
        "frames": [FRAMES],
        "max_num_inference_steps": 50,
        "max_guidance_scale": 10.0,
    }


def trained_denoiser(folder: Path, name: str) -> WanTransformer3DModel:
    """The moving average of a checkpoint, as a model."""
    state = load_checkpoint(folder / f"{name}.pt")
    if state is None:
        raise SystemExit(f"{folder / name}.pt: no such checkpoint")
    model = new_denoiser().eval()
    model.load_state_dict(state["average"])
    return model


SETTINGS = {"1": (16, 2.0), "2": (4, 1.0)}
"""Steps and guidance scale of each version that ships."""


def package(folder: Path, name: str, target: Path, version: str, shift: float) -> None:
    """Writes the model folder of `version`; `training/card.py` writes its card."""
    steps, guidance = SETTINGS[version]
    target.mkdir(parents=True, exist_ok=True)
    trained_denoiser(folder, name).to(torch.float16).save_pretrained(target / "transformer")
    TinyVideoAutoencoder.from_pretrained(folder / "autoencoder").to(torch.float16).save_pretrained(target / "vae")
    TinyTextEncoder.from_pretrained(folder / "text_encoder").to(torch.float16).save_pretrained(target / "text_encoder")
    TinyTokenizer.from_pretrained(folder / "tokenizer").save_pretrained(target / "tokenizer")
    FlowMatchEulerDiscreteScheduler(shift=shift).save_pretrained(target / "scheduler")
    (target / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", **CLASSES}, indent=2) + "\n")
    (target / "videogen.json").write_text(json.dumps(spec(steps, guidance), indent=2) + "\n")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/training"))
    parser.add_argument("--name", default="denoiser")
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--version", choices=list(SETTINGS), required=True)
    parser.add_argument("--shift", type=float, default=2.0)
    package(**vars(parser.parse_args()))
