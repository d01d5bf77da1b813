"""Trains the video autoencoder of `videogen-tiny`.

Loss: L1 and squared error plus the L1 of spatial gradients, which is what keeps corners sharp; the shape and three
pixels around it (so the hole of a ring too) count six times. Latents carry noise of 0.2 against a small penalty on
their size, so that the decoder tolerates a denoiser's error and the latent scale stays near one.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from training.data import as_frames, held_out_attributes, render_clips, sample_attributes, training_attributes
from training.loop import Log, MovingAverage, load_checkpoint, plot_log, save_checkpoint, set_learning_rate, trapezoid
from training.muon import optimisers
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder

FOREGROUND_LEVEL = 0.0


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


def train(out: Path, minutes: float, bank_size: int, batch: int, seed: int, warm_start: Path | None) -> None:
    torch.manual_seed(seed)
    model = TinyVideoAutoencoder().to(memory_format=torch.channels_last)
    if warm_start:
        known, own = TinyVideoAutoencoder.from_pretrained(warm_start).state_dict(), model.state_dict()
        model.load_state_dict({k: known[k] if known[k].shape == v.shape else v for k, v in own.items()})
    inner = [
        p for name, p in model.named_parameters() if p.ndim == 4 and "frame_in" not in name and "frame_out" not in name
    ]
    steppers = optimisers(model, inner, muon_lr=4e-3, adam_lr=2e-3)
    average = MovingAverage(model, 0.998)
    checkpoint_path, log = out / "autoencoder.pt", Log(out / "autoencoder.csv")
    steps, spent = 0, 0.0
    if state := load_checkpoint(checkpoint_path):
        model.load_state_dict(state["model"])
        average.shadow, average.updates = state["average"], state["steps"]
        for stepper, saved in zip(steppers, state["optimisers"], strict=True):
            stepper.load_state_dict(saved)
        steps, spent = state["steps"], state["spent"]
    print(f"rendering {bank_size} training clips", flush=True)
    bank = render_clips(sample_attributes(training_attributes(), bank_size, seed), seed=1_000_000)
    held_out = render_clips(sample_attributes(held_out_attributes(), 96, seed), seed=2_000_000)
    judge = TinyVideoAutoencoder()
    last = time.monotonic()
    while (progress := spent / (minutes * 60)) < 1:
        set_learning_rate(steppers, trapezoid(progress))
        frames = as_frames(bank[torch.randint(bank_size, (batch,))])
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(frames)
            output = model.decode(latents + 0.2 * torch.randn_like(latents))
        loss = reconstruction_loss(output.float(), frames) + 3e-4 * latents.float().square().mean()
        loss.backward()
        for stepper in steppers:
            stepper.step()
            stepper.zero_grad(set_to_none=True)
        average.update(model)
        steps += 1
        now = time.monotonic()
        spent, last = spent + now - last, now
        if steps % 100 == 0:
            judge.load_state_dict(average.shadow)
            log.write(
                steps=steps,
                samples=steps * batch,
                loss=loss.item(),
                latent_rms=latents.float().square().mean().sqrt().item(),
                **evaluate(judge, held_out),
            )
            save_checkpoint(
                checkpoint_path,
                model=model.state_dict(),
                average=average.shadow,
                optimisers=[s.state_dict() for s in steppers],
                steps=steps,
                spent=spent,
            )
            last = time.monotonic()
    judge.load_state_dict(average.shadow)
    mean, std = latent_statistics(judge, bank[:512])
    judge.register_to_config(latents_mean=mean, latents_std=std)
    judge.save_pretrained(out / "autoencoder")
    plot_log(out / "autoencoder.csv", "loss", out / "autoencoder.svg")
    print(f"saved {out / 'autoencoder'}: {evaluate(judge, held_out)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("var/training"))
    parser.add_argument("--minutes", type=float, default=18)
    parser.add_argument("--bank-size", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--warm-start", type=Path, help="an autoencoder folder; layers of the same shape are copied")
    train(**vars(parser.parse_args()))
