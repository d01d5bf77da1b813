"""A few cheap numbers about one clip, for telling a broken video from a sound one without a reference.

Smoothness alone rewards blur and standing still, so every measure of it stands beside how much moves and how sharp
the picture is. Flicker and repeats after VBench (Huang et al. 2024); the coherence index is the mean change over one
frame over that over four: near 1, frames follow each other in no order.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from videogen.media.frames import check_frames

LUMA = np.array([0.299, 0.587, 0.114])
REPEATED = 0.15  # mean change in 8-bit levels below which a frame counts as the one before it again
DARK = 16  # brightest value of a frame that counts as black
BLANK = 2.0  # spread of every channel, in levels, below which a frame shows nothing
CLIPPED_SHARE = 0.9
INCOHERENT = 0.9
FLICKERING = 4.0
LAG = 4

Anomaly = Literal["not finite", "black", "blank", "clipped", "frozen", "incoherent", "flickering"]


@dataclass(frozen=True, slots=True)
class ClipMeasures:
    """Measures of one clip; levels are of 0 to 255.

    motion: mean change from frame to frame in levels. dup_frac: share of frames that repeat the one before.
    tci: change over one frame over change over four, None when nothing moves or the clip is shorter than five frames.
    lum_flicker: mean jump of a frame's brightness out of line with its neighbours, in levels.
    sharpness: variance of the Laplacian of luma. black_frac, blank_frac: share of such frames.
    clipped_frac: share of values at 0 or 255. non_finite: how many values were no numbers.
    """

    motion: float
    dup_frac: float
    tci: float | None
    lum_flicker: float
    sharpness: float
    black_frac: float
    blank_frac: float
    clipped_frac: float
    non_finite: int


def _change(levels: np.ndarray, lag: int) -> np.ndarray:
    """Mean absolute change over `lag` frames: (T - lag,). In RGB: a red thing on grey may differ in no luma."""
    return np.abs(levels[lag:].astype(np.int16) - levels[:-lag]).mean(axis=(1, 2, 3))


def _sharpness(luma: np.ndarray) -> float:
    if min(luma.shape[1:]) < 3:
        return 0.0
    middle = luma[:, 1:-1, 1:-1]
    around = luma[:, :-2, 1:-1] + luma[:, 2:, 1:-1] + luma[:, 1:-1, :-2] + luma[:, 1:-1, 2:]
    return float((around - 4 * middle).var(axis=(1, 2)).mean())


def _flicker(luma: np.ndarray) -> float:
    brightness = luma.mean(axis=(1, 2))
    if len(brightness) < 3:
        return 0.0
    return float(np.abs(brightness[1:-1] - (brightness[2:] + brightness[:-2]) / 2).mean())


def _levels(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Frames in 8-bit levels as uint8, and how many values of a float clip in [0, 1] were no numbers."""
    if isinstance(frames, np.ndarray) and np.issubdtype(frames.dtype, np.floating):
        bad = ~np.isfinite(frames)
        return (np.where(bad, 0, frames).clip(0, 1) * 255).round().astype(np.uint8), int(bad.sum())
    return frames, 0


def measure_clip(frames: np.ndarray) -> ClipMeasures:
    """Measures of a clip (T, H, W, 3), uint8, or float in [0, 1]. Raises InvalidFrames."""
    levels, non_finite = _levels(frames)
    check_frames(levels)
    luma = levels.astype(np.float64) @ LUMA
    steps = _change(levels, 1) if len(levels) > 1 else np.zeros(0)
    motion = float(steps.mean()) if len(steps) else 0.0
    far = float(_change(levels, LAG).mean()) if len(levels) > LAG else 0.0
    return ClipMeasures(
        motion=motion,
        dup_frac=float((steps < REPEATED).mean()) if len(steps) else 0.0,
        tci=motion / far if far >= REPEATED else None,
        lum_flicker=_flicker(luma),
        sharpness=_sharpness(luma),
        black_frac=float((levels.max(axis=(1, 2, 3)) < DARK).mean()),
        blank_frac=float((levels.std(axis=(1, 2)).max(axis=1) < BLANK).mean()),
        clipped_frac=float(((levels == 0) | (levels == 255)).mean()),
        non_finite=non_finite,
    )


def anomalies(measures: ClipMeasures, moves: bool = True) -> list[Anomaly]:
    """What is wrong with a clip by fixed limits; empty when nothing is. `moves` is whether it is meant to."""
    found: dict[Anomaly, bool] = {
        "not finite": measures.non_finite > 0,
        "black": measures.black_frac > 0,
        "blank": measures.blank_frac > measures.black_frac,
        "clipped": measures.clipped_frac > CLIPPED_SHARE,
        "frozen": moves and measures.dup_frac == 1.0,
        "incoherent": measures.tci is not None and measures.tci > INCOHERENT and measures.motion > 1,
        "flickering": measures.lum_flicker > FLICKERING,
    }
    return [name for name, wrong in found.items() if wrong]
