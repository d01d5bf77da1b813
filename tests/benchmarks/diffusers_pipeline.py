"""A plain `DiffusionPipeline` over the same weights: diffusers' own scheduler and eager modules, nothing of ours."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline, FlowMatchEulerDiscreteScheduler

from videogen.models.loading import load_networks, load_tokenizer


class EagerPipeline(DiffusionPipeline):
    """Prompts and seeds -> uint8 clips (B, T, H, W, 3), as a user of diffusers would write it."""

    def __init__(self, text_encoder, transformer, vae, scheduler, tokenizer) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.register_modules(text_encoder=text_encoder, transformer=transformer, vae=vae, scheduler=scheduler)
        self.words = tokenizer

    @classmethod
    def of(cls, folder: Path) -> "EagerPipeline":
        networks = load_networks(folder)
        scheduler = FlowMatchEulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        return cls(networks.text_encoder, networks.transformer, networks.vae, scheduler, load_tokenizer(folder))

    def _embed(self, prompts: Sequence[str]) -> torch.Tensor:
        return self.text_encoder(*map(torch.from_numpy, self.words(prompts)))

    @torch.no_grad()
    def __call__(self, prompts: Sequence[str], seeds: Sequence[int], steps: int, guidance: float) -> np.ndarray:
        embeds = self._embed(prompts)
        empty = self._embed([""] * len(prompts)) if guidance > 1 else None
        shape = (self.transformer.config.in_channels, 4, 8, 8)
        latents = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])
        self.scheduler.set_timesteps(steps)
        for t in self.scheduler.timesteps:
            rows = torch.cat([latents, latents]) if guidance > 1 else latents
            texts = embeds if empty is None else torch.cat([embeds, empty])
            velocity = self.transformer(rows, t.expand(len(rows)), texts, return_dict=False)[0]
            if guidance > 1:
                wanted, free = velocity.chunk(2)
                velocity = free + guidance * (wanted - free)
            latents = self.scheduler.step(velocity, t, latents, return_dict=False)[0]
        frames = self.vae.decode(self.vae.denormalise(latents))
        return ((frames.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()
