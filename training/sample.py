"""Samples from a denoiser under training and asks the pixel oracle what it sees.

A quick look while training goes on. The figures of the model card come from `training/evaluate.py`, which uses the
engine that ships.
"""

import argparse
import itertools
import random
from pathlib import Path

import numpy as np
import torch
from diffusers import WanTransformer3DModel

from training.data import held_out_attributes, training_attributes
from training.denoiser import embed
from training.loop import Log, load_checkpoint
from training.package import trained_denoiser
from training.precision import mixed_precision
from videogen.media.contact_sheet import contact_sheet
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder
from videogen.quality.oracle import judge_many
from videogen.world.grammar import FIELDS, Attributes, caption


def sigmas(steps: int, shift: float) -> torch.Tensor:
    """Noise levels from 1 to 0, (steps + 1,), shifted as in SD3: s -> shift s / (1 + (shift - 1) s)."""
    linear = torch.linspace(1, 0, steps + 1)
    return shift * linear / (1 + (shift - 1) * linear)


@torch.no_grad()
def denoise(
    model: WanTransformer3DModel,
    slots: torch.Tensor,
    empty: torch.Tensor,
    noise: torch.Tensor,
    levels: torch.Tensor,
    guidance: float,
) -> torch.Tensor:
    """Euler from pure noise (B, z, t, h, w) to latents; classifier-free guidance where `guidance` is above 1."""
    latents = noise
    for level, after in itertools.pairwise(levels):
        timestep = torch.full((len(latents),), 1000 * float(level))
        velocity = model(latents, timestep=timestep, encoder_hidden_states=slots, return_dict=False)[0].float()
        if guidance > 1:
            free = model(latents, timestep=timestep, encoder_hidden_states=empty.expand_as(slots), return_dict=False)[
                0
            ].float()
            velocity = free + guidance * (velocity - free)
        latents = latents + (after - level) * velocity
    return latents


@torch.no_grad()
def clips_of(
    model: WanTransformer3DModel,
    folder: Path,
    attributes: list[Attributes],
    steps: int,
    guidance: float,
    shift: float,
    seed: int,
) -> np.ndarray:
    """uint8 clips (N, 16, 64, 64, 3) for one random wording of each combination."""
    autoencoder = TinyVideoAutoencoder.from_pretrained(folder / "autoencoder").eval()
    rng = random.Random(seed)
    slots, empty = embed(folder, [caption(a, rng) for a in attributes]), embed(folder, [""])
    noise = torch.randn(
        len(attributes), model.config.in_channels, 4, 8, 8, generator=torch.Generator().manual_seed(seed)
    )
    levels, clips = sigmas(steps, shift), []
    for rows in torch.arange(len(attributes)).split(32):
        with mixed_precision():
            latents = denoise(model, slots[rows], empty, noise[rows], levels, guidance)
            frames = autoencoder.decode(autoencoder.denormalise(latents)).float()
        clips.append(((frames.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1))
    return torch.cat(clips).numpy()


def accuracies(attributes: list[Attributes], clips: np.ndarray) -> dict[str, float]:
    """The share of clips whose attribute the oracle names as asked, per attribute and all five at once."""
    verdicts = judge_many(clips)
    hits = np.array(
        [[getattr(v, f) == getattr(a, f) for f in FIELDS] for a, v in zip(attributes, verdicts, strict=True)]
    )
    return {**dict(zip(FIELDS, hits.mean(0).tolist(), strict=True)), "joint": float(hits.all(1).mean())}


def main(
    folder: Path,
    name: str,
    count: int,
    steps: int,
    guidance: float,
    shift: float,
    seed: int,
    sheet: Path | None,
    seen: bool,
) -> None:
    model = trained_denoiser(folder, name)
    attributes = random.Random(seed).sample(training_attributes() if seen else held_out_attributes(), count)
    clips = clips_of(model, folder, attributes, steps, guidance, shift, seed)
    trained = load_checkpoint(folder / f"{name}.pt") or {}
    settings = {"trained": trained.get("steps", 0), "steps": steps, "guidance": guidance, "shift": shift, "n": count}
    Log(folder / f"{name}-samples.csv").write(**settings, **accuracies(attributes, clips))
    if sheet:
        sheet.write_bytes(contact_sheet(list(clips[:16]), [caption(a) for a in attributes[:16]]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/training"))
    parser.add_argument("--name", default="denoiser")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--shift", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--seen", action="store_true", help="combinations that training saw, instead of held-out ones")
    main(**vars(parser.parse_args()))
