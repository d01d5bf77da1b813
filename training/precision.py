"""In which precision to train: bfloat16 pays only where the CPU has units for it, and costs tenfold where not."""

from contextlib import AbstractContextManager

import torch

from videogen.engines.device import cpu_architecture


def has_bfloat16_units() -> bool:
    """Has this CPU matrix or vector units for bfloat16?"""
    return "bf16" in cpu_architecture()


def mixed_precision() -> AbstractContextManager:
    """Autocast to bfloat16 where that is faster, float32 elsewhere."""
    return torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16_units())
