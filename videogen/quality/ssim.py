"""Structural similarity between two clips (Wang et al. 2004, "Image quality assessment", eq. 13).

Gaussian window 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, RGB in [0, 1], only where the window fits into the
frame; mean over pixels and channels per frame, then over frames. The same numbers as torchmetrics.
"""

import numpy as np

from videogen.errors import InvalidFrames
from videogen.media.frames import check_same_shape

WINDOW = 11
SIGMA = 1.5
C1 = 0.01**2
C2 = 0.03**2
CONVENTION = "RGB, gaussian window 11x11 sigma 1.5, K 0.01 and 0.03, valid area, mean over frames"


def _kernel() -> np.ndarray:
    offset = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offset**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def _blur(image: np.ndarray) -> np.ndarray:
    """The gaussian mean of (H, W, C) where the window fits: (H - 10, W - 10, C)."""
    kernel = _kernel()
    height, width = image.shape[0] - WINDOW + 1, image.shape[1] - WINDOW + 1
    rows = sum(weight * image[i : i + height] for i, weight in enumerate(kernel))
    return sum(weight * rows[:, i : i + width] for i, weight in enumerate(kernel))


def _frame(a: np.ndarray, b: np.ndarray) -> float:
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    structure = (2 * covariance + C2) / (var_a + var_b + C2)
    return float((luminance * structure).mean())


def ssim_frames(reference: np.ndarray, candidate: np.ndarray) -> np.ndarray:
    """SSIM of each frame, float64 (T,), of two clips uint8 (T, H, W, 3). Raises InvalidFrames below 11x11 pixels."""
    check_same_shape(reference, candidate)
    if min(reference.shape[1:3]) < WINDOW:
        raise InvalidFrames(f"frames of {reference.shape[1:3]} pixels; SSIM needs at least {WINDOW}x{WINDOW}")
    pairs = zip(reference.astype(np.float64) / 255, candidate.astype(np.float64) / 255, strict=True)
    return np.array([_frame(a, b) for a, b in pairs])


def ssim(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The mean of the per-frame SSIM, in [-1, 1]; 1 when the clips are identical."""
    return float(ssim_frames(reference, candidate).mean())
