"""A small classifier that reads the five attributes off latents: the denoiser's teacher, never its judge.

It sees latents with up to half noise mixed in, because the denoiser shows it estimates, not clean latents. It shares
nothing with the pixel oracle, which is what judges the clips.
"""

from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from training.loop import load_checkpoint, save_checkpoint, set_learning_rate, trapezoid
from training.precision import mixed_precision
from videogen.models.tiny_autoencoder import ResidualBlock
from videogen.world.grammar import WORDS


class LatentClassifier(nn.Module):
    """Normalised latents (B, z, t, 8, 8) -> one tensor of logits per attribute, in the order of `FIELDS`."""

    def __init__(self, channels: int, frames: int = 4, width: int = 64) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels * frames, width, 3, padding=1), *(ResidualBlock(width) for _ in range(3))
        )
        self.heads = nn.ModuleList(nn.Linear(2 * width, len(words)) for words in WORDS.values())

    def forward(self, latents: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.body(latents.flatten(1, 2))
        pooled = torch.cat([hidden.mean((2, 3)), hidden.amax((2, 3))], dim=1)
        return [head(pooled) for head in self.heads]


def cross_entropy(logits: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
    """Per clip and attribute, (B, 5); labels are (B, 5) class indices."""
    return torch.stack([F.cross_entropy(x, labels[:, i], reduction="none") for i, x in enumerate(logits)], dim=1)


def train_classifier(bank: dict[str, torch.Tensor], steps: int = 500, batch: int = 128) -> LatentClassifier:
    """Trains on the clips of `bank` but its last 512, on which it reports its accuracy; returns it frozen."""
    latents, labels = bank["latents"], bank["labels"]
    model = LatentClassifier(latents.shape[1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    optimiser.param_groups[0]["peak_lr"] = 2e-3
    for step in range(steps):
        set_learning_rate([optimiser], trapezoid(step / steps))
        rows = torch.randint(len(latents) - 512, (batch,))
        level = 0.5 * torch.rand(batch, 1, 1, 1, 1)
        clean = latents[rows].float()
        with mixed_precision():
            logits = model((1 - level) * clean + level * torch.randn_like(clean))
        loss = cross_entropy([x.float() for x in logits], labels[rows]).sum(1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.requires_grad_(False).eval()
    right = torch.stack([x.argmax(1) == labels[-512:, i] for i, x in enumerate(model(latents[-512:].float()))])
    print(
        f"classifier: {right.float().mean(1).tolist()} right per attribute, all five {right.all(0).float().mean():.3f}",
        flush=True,
    )
    return model


def cached_classifier(path: Path, bank: dict[str, torch.Tensor]) -> LatentClassifier:
    """The classifier at `path`, trained on `bank` and kept there the first time."""
    if (state := load_checkpoint(path)) is None:
        model = train_classifier(bank)
        save_checkpoint(path, **model.state_dict())
        return model
    model = LatentClassifier(bank["latents"].shape[1])
    model.load_state_dict(state)
    return model.requires_grad_(False).eval()
