"""Trains the denoiser of `videogen-tiny`: rectified flow on the autoencoder's latents.

Noise level t in (0, 1): x_t = (1 - t) x + t e, and the network predicts the velocity e - x (Liu et al. 2022, "Flow
straight and fast"). Whole captions and single attributes are dropped at random, so that guidance and partial prompts
work. Clips are rendered, encoded and captioned once (`bank`), then sampled.
"""

import argparse
import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.classifier import LatentClassifier, cached_classifier, cross_entropy
from training.data import as_frames, render_clips, sample_attributes, training_attributes
from training.loop import Run, load_checkpoint, plot_log, save_checkpoint
from training.muon import optimisers
from training.precision import mixed_precision
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder
from videogen.models.tiny_text_encoder import TinyTextEncoder
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.world.grammar import Attributes, caption

DENOISER = {
    "patch_size": (2, 2, 2),
    "num_attention_heads": 4,
    "attention_head_dim": 48,
    "in_channels": 12,
    "out_channels": 12,
    "text_dim": 128,
    "freq_dim": 128,
    "ffn_dim": 768,
    "num_layers": 6,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 32,
}


def new_denoiser() -> WanTransformer3DModel:
    """A fresh denoiser whose output starts at zero."""
    model = WanTransformer3DModel(**DENOISER)
    nn.init.zeros_(model.proj_out.weight)
    nn.init.zeros_(model.proj_out.bias)
    return model


@torch.no_grad()
def embed(folder: Path, texts: list[str]) -> torch.Tensor:
    """Captions -> slot embeddings (N, 5, 128)."""
    encoder = TinyTextEncoder.from_pretrained(folder / "text_encoder").eval()
    tokenizer = TinyTokenizer.from_pretrained(folder / "tokenizer")
    parts = [texts[i : i + 256] for i in range(0, len(texts), 256)]
    return torch.cat([encoder(*map(torch.from_numpy, tokenizer(part))) for part in parts])


@torch.no_grad()
def make_bank(folder: Path, attributes: list[Attributes], seed: int) -> dict[str, torch.Tensor]:
    """Normalised latents (N, 12, 4, 8, 8), slot embeddings (N, 5, 128) and class indices (N, 5) of rendered clips."""
    autoencoder = (
        TinyVideoAutoencoder.from_pretrained(folder / "autoencoder").eval().to(memory_format=torch.channels_last)
    )
    latents = []
    for start in range(0, len(attributes), 64):
        clips = render_clips(attributes[start : start + 64], seed + start)
        with mixed_precision():
            raw = autoencoder.encode(as_frames(clips))
        latents.append(autoencoder.normalise(raw.float()).half())
        if start % 4096 == 0:
            print(f"bank: {start} of {len(attributes)} clips", flush=True)
    rng = random.Random(seed)
    texts = [caption(a, rng) for a in attributes]
    labels = torch.tensor([a.indices() for a in attributes])
    return {"latents": torch.cat(latents), "slots": embed(folder, texts), "labels": labels}


def cached_bank(folder: Path, count: int, seed: int) -> dict[str, torch.Tensor]:
    path = folder / f"bank-{count}-{seed}.pt"
    if (bank := load_checkpoint(path)) is None:
        bank = make_bank(folder, sample_attributes(training_attributes(), count, seed), 10_000_000 * (seed + 1))
        save_checkpoint(path, **bank)
    return bank


def draw_kept(batch: int, slots: int, whole: float = 0.1, single: float = 0.03) -> torch.Tensor:
    """Which slots stay, bool (batch, slots): whole captions and single slots are dropped with these probabilities."""
    return (torch.rand(batch, 1) >= whole) & (torch.rand(batch, slots) >= single)


def sample_noise_levels(count: int) -> torch.Tensor:
    """Logit-normal noise levels, shifted towards noise, with a tenth uniform so that both ends are seen."""
    t = torch.sigmoid(1.2 * torch.randn(count) + 0.4)
    return torch.where(torch.rand(count) < 0.1, torch.rand(count), t)


SIZE_WEIGHT = torch.tensor([1.4, 1.0, 0.8])
"""Weight of a clip by its size: it depends on the caption alone, so it does not bias the prediction."""
NAMING = 0.03
"""Weight of the classifier's cross-entropy beside the velocity error."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Latents (B, z, t, h, w), slot embeddings (B, 5, 128), which of them were kept (B, 5), class indices (B, 5)."""

    latents: torch.Tensor
    slots: torch.Tensor
    kept: torch.Tensor
    labels: torch.Tensor


def draw_batch(bank: dict[str, torch.Tensor], empty: torch.Tensor, count: int) -> Batch:
    rows = torch.randint(len(bank["latents"]), (count,))
    kept = draw_kept(count, empty.shape[1])
    slots = torch.where(kept.unsqueeze(2), bank["slots"][rows], empty)
    return Batch(bank["latents"][rows].float(), slots, kept, bank["labels"][rows])


def flow_loss(model: nn.Module, classifier: LatentClassifier, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The velocity error, and how badly the implied clean latents x_t - t v name what the caption kept.

    The second term is weighted by (1 - t)^2: far from the data the implied latents are an average over positions,
    which names nothing.
    """
    noise, t = torch.randn_like(batch.latents), sample_noise_levels(batch.latents.shape[0])
    wide = t.view(-1, 1, 1, 1, 1)
    noisy = (1 - wide) * batch.latents + wide * noise
    with sdpa_kernel(SDPBackend.MATH), mixed_precision():
        velocity = model(noisy, timestep=1000 * t, encoder_hidden_states=batch.slots, return_dict=False)[0]
        naming = cross_entropy([x.float() for x in classifier(noisy - wide * velocity)], batch.labels)
    error = (velocity.float() - (noise - batch.latents)).square().mean(dim=(1, 2, 3, 4))
    flow = (SIZE_WEIGHT[batch.labels[:, 0]] * error).mean()
    return flow, ((1 - t).square().unsqueeze(1) * naming * batch.kept).sum(1).mean()


def block_matrices(model: WanTransformer3DModel) -> list[nn.Parameter]:
    """The weights that Muon trains: every matrix inside a transformer block."""
    return [p for p in model.blocks.parameters() if p.ndim == 2 and min(p.shape) > 1]


def train(
    folder: Path,
    name: str,
    steps: int,
    clips: int,
    batch: int,
    seed: int,
    muon_lr: float,
    adam_lr: float,
    compiled: bool,
) -> None:
    torch.manual_seed(seed)
    bank, empty = cached_bank(folder, clips, seed=0), embed(folder, [""])
    classifier = cached_classifier(folder / "classifier.pt", bank)
    model = new_denoiser()
    if compiled:
        model.compile_repeated_blocks(fullgraph=True)
    steppers = optimisers(model, block_matrices(model), muon_lr, adam_lr)
    run, smooth = Run(folder, name, model, steppers, steps=steps, decay=0.9985, seed=seed), None
    for _ in run:
        flow, naming = flow_loss(model, classifier, draw_batch(bank, empty, batch))
        run.advance(flow + NAMING * naming)
        figures = torch.stack([flow, naming]).detach()
        smooth = figures if smooth is None else smooth.lerp(figures, 0.03)
        if run.steps % 50 == 0:
            run.tell(run.steps * batch, loss=smooth[0].item(), naming=smooth[1].item())
    plot_log(folder / f"{name}.csv", "loss", folder / f"{name}.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/training"))
    parser.add_argument("--name", default="denoiser")
    parser.add_argument("--steps", type=int, default=3400)
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--muon-lr", type=float, default=1e-2)
    parser.add_argument("--adam-lr", type=float, default=2e-3)
    parser.add_argument("--compiled", action="store_true")
    train(**vars(parser.parse_args()))
