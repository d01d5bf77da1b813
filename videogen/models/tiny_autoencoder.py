"""The video autoencoder of `videogen-tiny`: chunks of four frames become one latent frame, 8x smaller per side."""

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip; the last one starts at zero, so a new block is the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.second(F.silu(self.first(F.silu(hidden))))


class TinyVideoAutoencoder(ModelMixin, ConfigMixin):
    """Frames (B, 3, T, H, W) in [-1, 1] <-> latents (B, z, T/4, H/8, W/8).

    Each chunk of four frames is coded alone: a 2D stem shared by the four frames, one merge, no temporal
    convolution. `latents_mean` and `latents_std` (one number per latent channel) are measured after training;
    `normalise` and `denormalise` use them, so that a denoiser sees unit variance.
    """

    frames_per_latent = 4
    pixels_per_latent = 8

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 12,
        frame_channels: int = 48,
        channels: int = 112,
        frame_blocks: int = 2,
        blocks: int = 3,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ) -> None:
        super().__init__()
        merged = self.frames_per_latent * frame_channels
        self.frame_in = nn.Conv2d(3 * 16, frame_channels, 3, padding=1)
        self.frame_encoder = nn.Sequential(*(ResidualBlock(frame_channels) for _ in range(frame_blocks)))
        self.merge = nn.Conv2d(merged, channels, 4, stride=2, padding=1)
        self.encoder = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.to_latent = nn.Conv2d(channels, latent_channels, 3, padding=1)
        self.from_latent = nn.Conv2d(latent_channels, channels, 3, padding=1)
        self.decoder = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.split = nn.Conv2d(channels, merged * 4, 1)
        self.frame_decoder = nn.Sequential(*(ResidualBlock(frame_channels) for _ in range(frame_blocks)))
        self.frame_out = nn.Conv2d(frame_channels, 3 * 16, 3, padding=1)

    def _statistic(self, name: str, default: float, like: torch.Tensor) -> torch.Tensor:
        values = getattr(self.config, name) or [default] * self.config.latent_channels
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(1, -1, 1, 1, 1)

    def normalise(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, z, t, h, w) shifted and scaled to zero mean and unit variance per channel."""
        return (latents - self._statistic("latents_mean", 0.0, latents)) / self._statistic("latents_std", 1.0, latents)

    def denormalise(self, latents: torch.Tensor) -> torch.Tensor:
        """The inverse of `normalise`."""
        return latents * self._statistic("latents_std", 1.0, latents) + self._statistic("latents_mean", 0.0, latents)

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        """Frames (B, 3, T, H, W) in [-1, 1], T a multiple of 4, H and W of 8 -> raw latents (B, z, T/4, H/8, W/8)."""
        batch, _, count, height, width = frames.shape
        chunks = count // self.frames_per_latent
        hidden = F.pixel_unshuffle(frames.transpose(1, 2).reshape(batch * count, 3, height, width), 4)
        hidden = self.frame_encoder(self.frame_in(hidden))
        hidden = self.merge(hidden.reshape(batch * chunks, -1, height // 4, width // 4))
        latents = self.to_latent(self.encoder(hidden))
        return latents.reshape(batch, chunks, -1, height // 8, width // 8).transpose(1, 2)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Raw latents (B, z, t, h, w) -> frames (B, 3, 4t, 8h, 8w), about [-1, 1] and not clamped."""
        batch, channels, chunks, height, width = latents.shape
        hidden = self.from_latent(latents.transpose(1, 2).reshape(batch * chunks, channels, height, width))
        hidden = F.pixel_shuffle(self.split(self.decoder(hidden)), 2)
        hidden = hidden.reshape(batch * chunks * self.frames_per_latent, -1, 2 * height, 2 * width)
        frames = F.pixel_shuffle(self.frame_out(self.frame_decoder(hidden)), 4)
        return frames.reshape(batch, -1, 3, 8 * height, 8 * width).transpose(1, 2)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(frames))
