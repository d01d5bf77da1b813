"""A model's networks as engines see them: named float32 tensors in and out, whatever the model's own signature.

| network | inputs | outputs |
|---|---|---|
| text_encoder | input_ids, attention_mask: int64 (B, L) | embeds (B, S, D) |
| denoiser | latents (B, C, t, h, w), timestep (B,), embeds (B, S, D) | velocity, as latents |
| decoder | latents, normalised | frames: uint8 (B, T, H, W, 3); level (B,): mean of the frames before rounding |
| sampler | noise, embeds | latents, frames, level: all steps and the decoder in one graph |

`level` tells a frame of NaN, which uint8 cannot hold, from a black one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from videogen.models.loading import Networks

INPUTS = {
    "text_encoder": ("input_ids", "attention_mask"),
    "denoiser": ("latents", "timestep", "embeds"),
    "decoder": ("latents",),
    "sampler": ("noise", "embeds"),
}
OUTPUTS = {
    "text_encoder": ("embeds",),
    "denoiser": ("velocity",),
    "decoder": ("frames", "level"),
    "sampler": ("latents", "frames", "level"),
}


class TextEncoder(nn.Module):
    """Embeddings with padding at zero. An encoder of fixed slots (tiny's) has no padding in its output."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor]:
        encoded = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        if isinstance(encoded, torch.Tensor):
            return (encoded.float(),)
        return (encoded.last_hidden_state.float() * attention_mask[:, :, None],)


class Denoiser(nn.Module):
    """Wan's transformer, computing in its weights' precision."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer
        self.dtype = transformer.patch_embedding.weight.dtype

    def forward(self, latents: torch.Tensor, timestep: torch.Tensor, embeds: torch.Tensor) -> tuple[torch.Tensor]:
        hidden, text = latents.to(self.dtype), embeds.to(self.dtype)
        return (self.transformer(hidden, timestep, text, return_dict=False)[0].float(),)


class Decoder(nn.Module):
    """Normalised latents -> frames, with the normalisation that the autoencoder's config records."""

    def __init__(self, vae: nn.Module) -> None:
        super().__init__()
        self.vae = vae
        self.dtype = next(vae.parameters()).dtype
        channels = vae.config.get("z_dim") or vae.config.get("latent_channels")
        for name, default in (("latents_mean", 0.0), ("latents_std", 1.0)):
            values = torch.tensor(vae.config.get(name) or [default] * channels, dtype=torch.float32)
            self.register_buffer(name, values.view(1, -1, 1, 1, 1))

    def forward(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        raw = (latents * self.latents_std + self.latents_mean).to(self.dtype)
        decoded = self.vae.decode(raw)
        video = (decoded if isinstance(decoded, torch.Tensor) else decoded.sample).float()
        frames = ((video.clamp(-1, 1) + 1) * 127.5).round().permute(0, 2, 3, 4, 1)
        # The cast comes last: TensorRT takes uint8 as an output only.
        return frames.to(torch.uint8), video.mean(dim=(1, 2, 3, 4))


class Sampler(nn.Module):
    """Every Euler step at fixed sigmas, without guidance, then the decoder."""

    def __init__(
        self, denoiser: Denoiser, decoder: Decoder, sigmas: Sequence[float], timesteps: Sequence[float]
    ) -> None:
        super().__init__()
        self.denoiser, self.decoder = denoiser, decoder
        steps = np.diff(np.asarray(sigmas, dtype=np.float32))
        self.schedule = tuple(zip(map(float, timesteps), map(float, steps), strict=True))

    def forward(self, noise: torch.Tensor, embeds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        latents = noise
        for timestep, step in self.schedule:
            times = torch.full((noise.shape[0],), timestep, dtype=torch.float32, device=noise.device)
            latents = latents + step * self.denoiser(latents, times, embeds)[0]
        return latents, *self.decoder(latents)


def wrap(networks: Networks, sigmas: Sequence[float] = (), timesteps: Sequence[float] = ()) -> dict[str, nn.Module]:
    """The networks by name, with a sampler when a schedule of sigmas is given."""
    denoiser, decoder = Denoiser(networks.transformer), Decoder(networks.vae)
    wrapped: dict[str, nn.Module] = {
        "text_encoder": TextEncoder(networks.text_encoder),
        "denoiser": denoiser,
        "decoder": decoder,
    }
    if len(sigmas):
        wrapped["sampler"] = Sampler(denoiser, decoder, sigmas, timesteps)
    return {name: network.eval() for name, network in wrapped.items()}
