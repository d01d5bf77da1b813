"""Makes the few-step version of `videogen-tiny`: guidance folded into the network, trained on the steps it will take.

Starts from the base version. The target is the base's guided direction: the flow e - x plus (g - 1)(v_c - v_u), the
difference that guidance would add (Meng et al. 2023, "On distillation of guided diffusion models"). Most noise levels
are those of the few-step schedule. Every third batch instead walks the whole schedule from noise, as a user's
request does, and asks the latent classifier to name the outcome; the gradient flows through the last step alone
(Clark et al. 2024, DRaFT-LV).
"""

import argparse
from pathlib import Path

import torch
from diffusers import WanTransformer3DModel
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.classifier import LatentClassifier, cached_classifier, cross_entropy
from training.denoiser import SIZE_WEIGHT, Batch, block_matrices, cached_bank, draw_batch, embed, new_denoiser
from training.loop import Run, plot_log
from training.muon import optimisers
from training.package import trained_denoiser
from training.precision import mixed_precision
from training.sample import denoise, sigmas

ON_SCHEDULE = 0.85
"""The share of noise levels taken from the few-step schedule; the rest is uniform."""


def predict(model: WanTransformer3DModel, noisy: torch.Tensor, t: torch.Tensor, slots: torch.Tensor) -> torch.Tensor:
    with sdpa_kernel(SDPBackend.MATH), mixed_precision():
        return model(noisy, timestep=1000 * t, encoder_hidden_states=slots, return_dict=False)[0].float()


def guided_flow_loss(
    model: WanTransformer3DModel,
    base: WanTransformer3DModel,
    batch: Batch,
    empty: torch.Tensor,
    levels: torch.Tensor,
    guidance: float,
) -> torch.Tensor:
    """Squared distance to the flow plus the guidance of `base`, at noise levels mostly from `levels`."""
    count = len(batch.latents)
    picked = levels[torch.randint(len(levels) - 1, (count,))]
    t = torch.where(torch.rand(count) < ON_SCHEDULE, picked, torch.rand(count))
    wide, noise = t.view(-1, 1, 1, 1, 1), torch.randn_like(batch.latents)
    noisy = (1 - wide) * batch.latents + wide * noise
    with torch.no_grad():
        difference = predict(base, noisy, t, batch.slots) - predict(base, noisy, t, empty.expand_as(batch.slots))
    target = noise - batch.latents + (guidance - 1) * difference
    error = (predict(model, noisy, t, batch.slots) - target).square().mean(dim=(1, 2, 3, 4))
    return (SIZE_WEIGHT[batch.labels[:, 0]] * error).mean()


def outcome_loss(
    model: WanTransformer3DModel, classifier: LatentClassifier, batch: Batch, empty: torch.Tensor, levels: torch.Tensor
) -> torch.Tensor:
    """How badly the classifier names what the few-step sampler makes of the captions of `batch`."""
    with torch.no_grad(), mixed_precision():
        latents = denoise(model, batch.slots, empty, torch.randn_like(batch.latents), levels[:-1], guidance=1.0)
    last = levels[-2].expand(len(latents))
    latents = latents - levels[-2] * predict(model, latents, last, batch.slots)
    level = 0.25 * torch.rand(len(latents), 1, 1, 1, 1)  # noise, so that no texture can please the classifier alone
    logits = classifier((1 - level) * latents + level * torch.randn_like(latents))
    return (cross_entropy(logits, batch.labels) * batch.kept).sum(1).mean()


def train(
    folder: Path,
    base_name: str,
    name: str,
    steps: int,
    schedule: int,
    shift: float,
    guidance: float,
    outcome: float,
    batch: int,
    clips: int,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    bank, empty = cached_bank(folder, clips, seed=0), embed(folder, [""])
    classifier = cached_classifier(folder / "classifier.pt", bank)
    base, model = trained_denoiser(folder, base_name), new_denoiser()
    model.load_state_dict(base.state_dict())
    steppers = optimisers(model, block_matrices(model), muon_lr=4e-3, adam_lr=8e-4)
    levels, smooth = sigmas(schedule, shift), [0.0, 0.0]
    run = Run(folder, name, model, steppers, steps=steps, decay=0.998, seed=seed)
    for step in run:
        drawn, walk = draw_batch(bank, empty, batch), outcome > 0 and step % 3 == 2
        if walk:
            loss = outcome_loss(model, classifier, drawn, empty, levels)
            run.advance(outcome * loss)
        else:
            loss = guided_flow_loss(model, base, drawn, empty, levels, guidance)
            run.advance(loss)
        before = smooth[walk] or loss.item()
        smooth[walk] = before + 0.05 * (loss.item() - before)
        if run.steps % 30 == 0:
            run.tell(run.steps * batch, loss=smooth[0], outcome=smooth[1])
    plot_log(folder / f"{name}.csv", "loss", folder / f"{name}.svg")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/training"))
    parser.add_argument("--base-name", default="denoiser")
    parser.add_argument("--name", default="few-step")
    parser.add_argument("--steps", type=int, default=300, help="steps of training")
    parser.add_argument("--schedule", type=int, default=4, help="steps that the result will sample with")
    parser.add_argument("--shift", type=float, default=2.0)
    parser.add_argument("--guidance", type=float, default=2.0)
    parser.add_argument("--outcome", type=float, default=0.03, help="weight of the outcome batches; 0 leaves them out")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--seed", type=int, default=0)
    train(**vars(parser.parse_args()))
