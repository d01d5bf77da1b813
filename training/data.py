"""Training clips: combinations that are not held out, rendered with fixed seeds, kept as uint8."""

import random

import torch

from videogen.world.grammar import Attributes, combinations, is_held_out
from videogen.world.renderer import render


def training_attributes() -> list[Attributes]:
    return [a for a in combinations() if not is_held_out(a)]


def held_out_attributes() -> list[Attributes]:
    return [a for a in combinations() if is_held_out(a)]


def sample_attributes(pool: list[Attributes], count: int, seed: int) -> list[Attributes]:
    """`count` combinations, every one of `pool` used as often as the next (to within one)."""
    rng, result = random.Random(seed), []
    while len(result) < count:
        result += rng.sample(pool, len(pool))
    return result[:count]


def as_frames(clips: torch.Tensor) -> torch.Tensor:
    """uint8 clips (B, 16, 3, 64, 64) -> frames (B, 3, 16, 64, 64) in [-1, 1], the autoencoder's input."""
    return (clips.float() / 127.5 - 1).transpose(1, 2)


def render_clips(attributes: list[Attributes], seed: int) -> torch.Tensor:
    """uint8 clips (N, 16, 3, 64, 64); clip i is drawn with seed `seed + i`."""
    clips = torch.empty(len(attributes), 16, 3, 64, 64, dtype=torch.uint8)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # small tensors: on a busy machine, waiting for a second thread costs ten times the work
    for index, attribute in enumerate(attributes):
        clips[index] = (render(attribute, seed + index) * 255).round().byte()
    torch.set_num_threads(threads)
    return clips
