"""Trains the video autoencoder of `videogen-tiny`.

Loss: L1 and squared error plus the L1 of spatial gradients, which is what keeps corners sharp; the shape and three
pixels around it (so the hole of a ring too) count six times. Latents carry noise of 0.2 against a small penalty on
their size, so that the decoder tolerates a denoiser's error and the latent scale stays near one.
"""

import argparse
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from training.data import as_frames, held_out_attributes, render_clips, sample_attributes, training_attributes
from training.loop import Run, plot_log
from training.muon import optimisers
from training.precision import mixed_precision
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder

FOREGROUND_LEVEL = 0.0
LATENT_NOISE, LATENT_PENALTY = 0.2, 3e-4


def foreground(frames: torch.Tensor, border: int = 0) -> torch.Tensor:
    """1 within `border` pixels of a shape (its brightest channel is above any background's), (B, 1, T, H, W)."""
    mask = (frames.amax(dim=1, keepdim=True) > FOREGROUND_LEVEL).float()
    return F.max_pool3d(mask, (1, 2 * border + 1, 2 * border + 1), stride=1, padding=(0, border, border))


def gradients(frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return frames.diff(dim=-1), frames.diff(dim=-2)


def reconstruction_loss(output: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    weight = 1 + 5 * foreground(frames, border=3)
    difference = output - frames
    pixel = (weight * (difference.abs() + 2 * difference.square())).mean() / weight.mean()
    edges = zip(gradients(output), gradients(frames), (weight[..., 1:], weight[..., 1:, :]), strict=True)
    edge = sum((w * (a - b).abs()).mean() for a, b, w in edges) / weight.mean()
    return pixel + edge


def psnr(output: torch.Tensor, frames: torch.Tensor, mask: torch.Tensor | None = None) -> float:
    """PSNR in dB of frames in [-1, 1] against a peak of 2, over `mask` where one is given."""
    error = (output.clamp(-1, 1) - frames).square()
    mean = error.mean() if mask is None else (error * mask).sum() / (mask.sum() * 3)
    return float(10 * torch.log10(4 / mean))


@torch.no_grad()
def evaluate(model: TinyVideoAutoencoder, clips: torch.Tensor) -> dict[str, float]:
    frames = as_frames(clips)
    output = torch.cat([model(part) for part in frames.split(16)])
    return {"psnr_db": psnr(output, frames), "foreground_psnr_db": psnr(output, frames, foreground(frames))}


@torch.no_grad()
def latent_statistics(model: TinyVideoAutoencoder, clips: torch.Tensor) -> tuple[list[float], list[float]]:
    latents = torch.cat([model.encode(as_frames(part)) for part in clips.split(16)])
    return latents.mean(dim=(0, 2, 3, 4)).tolist(), latents.std(dim=(0, 2, 3, 4)).tolist()


def draw_chunks(bank: torch.Tensor, count: int) -> torch.Tensor:
    """`count` chunks of four frames, each from a clip of its own, as frames (count, 3, 4, 64, 64) in [-1, 1]."""
    span = TinyVideoAutoencoder.frames_per_latent
    starts = span * torch.randint(bank.shape[1] // span, (count, 1))
    return as_frames(bank[torch.randint(len(bank), (count, 1)), starts + torch.arange(span)])


def inner_weights(model: TinyVideoAutoencoder) -> list[nn.Parameter]:
    """The weights that Muon trains: every convolution between the first and the last."""
    outermost = ("frame_in", "frame_out")
    return [p for name, p in model.named_parameters() if p.ndim == 4 and not name.startswith(outermost)]


def train(out: Path, steps: int, bank_size: int, batch: int, seed: int, warm_start: Path | None) -> None:
    torch.manual_seed(seed)
    model = TinyVideoAutoencoder().to(memory_format=torch.channels_last)
    if warm_start:
        known, own = TinyVideoAutoencoder.from_pretrained(warm_start).state_dict(), model.state_dict()
        model.load_state_dict({k: known[k] if known[k].shape == v.shape else v for k, v in own.items()})
    steppers = optimisers(model, inner_weights(model), muon_lr=4e-3, adam_lr=2e-3)
    print(f"rendering {bank_size} training clips", flush=True)
    bank = render_clips(sample_attributes(training_attributes(), bank_size, seed), seed=1_000_000)
    held_out = render_clips(sample_attributes(held_out_attributes(), 96, seed), seed=2_000_000)
    run = Run(out, "autoencoder", model, steppers, steps=steps, decay=0.998, seed=seed)
    judge = TinyVideoAutoencoder()
    for _ in run:
        frames = draw_chunks(bank, batch)
        with mixed_precision():
            latents = model.encode(frames)
            output = model.decode(latents + LATENT_NOISE * torch.randn_like(latents))
        size = latents.float().square().mean()
        loss = reconstruction_loss(output.float(), frames)
        run.advance(loss + LATENT_PENALTY * size)
        if run.steps % 100 == 0:
            judge.load_state_dict(run.average.shadow)
            figures = {"loss": loss.item(), "latent_rms": size.sqrt().item(), **evaluate(judge, held_out)}
            run.tell(run.steps * batch, **figures)
    judge.load_state_dict(run.average.shadow)
    mean, std = latent_statistics(judge, bank[:512])
    judge.register_to_config(latents_mean=mean, latents_std=std)
    judge.save_pretrained(out / "autoencoder")
    plot_log(out / "autoencoder.csv", "loss", out / "autoencoder.svg")
    print(f"saved {out / 'autoencoder'}: {evaluate(judge, held_out)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("var/training"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--bank-size", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=16, help="chunks of four frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-start", type=Path, help="an autoencoder folder; layers of the same shape are copied")
    train(**vars(parser.parse_args()))
