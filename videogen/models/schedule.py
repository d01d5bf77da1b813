"""The noise levels of a generation, and the Euler step between two of them. NumPy only: a CPU engine needs no torch.

Equal to the last bit to diffusers' FlowMatchEulerDiscreteScheduler (Esser et al. 2024, "Scaling Rectified Flow
Transformers", section 5.3.2 for the shift); the tests compare the two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from videogen.errors import ArtifactRefused
from videogen.models.spec import SigmaSchedule

UNSUPPORTED = (
    "use_dynamic_shifting",
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
    "shift_terminal",
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """N timesteps (what the denoiser is told) and N + 1 sigmas (1 is noise, 0 is data), float32, falling."""

    sigmas: np.ndarray
    timesteps: np.ndarray


def euler_schedule(config: Mapping[str, Any], steps: int, kind: SigmaSchedule) -> Schedule:
    """The schedule of a FlowMatchEulerDiscreteScheduler with this config.

    Raises ArtifactRefused for an option of it that is not supported.
    """
    for option in UNSUPPORTED:
        if config.get(option):
            raise ArtifactRefused(f"scheduler_config.json: {option} is not supported")
    count, shift = int(config.get("num_train_timesteps", 1000)), float(config.get("shift", 1.0))
    if kind == "uniform":
        sigmas = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
    else:
        trained = _shifted(np.linspace(1, count, count, dtype=np.float32)[::-1] / count, shift)
        high, low = float(trained[0]) * count, float(trained[-1]) * count
        sigmas = (np.linspace(high, low, steps) / count).astype(np.float64)
    sigmas = _shifted(sigmas, shift).astype(np.float32)
    return Schedule(np.append(sigmas, np.float32(0)), sigmas * np.float32(count))


def _shifted(sigmas: np.ndarray, shift: float) -> np.ndarray:
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def euler_step(latents: np.ndarray, velocity: np.ndarray, sigma: np.float32, next_sigma: np.float32) -> np.ndarray:
    """Latents at `sigma` -> latents at `next_sigma`, along the velocity (noise minus data)."""
    return latents + (next_sigma - sigma) * velocity
