"""Peak signal-to-noise ratio between two clips, in one stated convention.

RGB in [0, 1] from 8-bit frames, the squared error averaged over the three channels of a frame, one PSNR per
frame, then the mean over frames. The value of one pair of clips differs by 4 dB between conventions, so a
PSNR of this project compares only with another one taken here.

It measures fidelity to a reference computation (an engine, a codec), not the quality of a generated video.
"""

from dataclasses import dataclass

import numpy as np

from videogen.media.frames import check_same_shape

CAP_DB = 100.0
CONVENTION = "RGB, 8-bit, mean of per-frame PSNR, identical frames count as 100 dB"
LUMA = np.array([0.299, 0.587, 0.114])


@dataclass(frozen=True, slots=True)
class Psnr:
    """PSNR of a clip in dB: `mean` and `minimum` over frames in RGB, `luma` the mean in BT.601 luma."""

    mean: float
    minimum: float
    luma: float
    identical_frames: int
    frames: tuple[float, ...]


def _decibels(squared_error: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.minimum(-10 * np.log10(squared_error), CAP_DB)


def measure_psnr(reference: np.ndarray, candidate: np.ndarray) -> Psnr:
    """PSNR of `candidate` against `reference`, both uint8 (T, H, W, 3). Raises InvalidFrames."""
    check_same_shape(reference, candidate)
    error = (reference.astype(np.float64) - candidate.astype(np.float64)) / 255
    squared = (error**2).mean(axis=(1, 2, 3))
    frames = _decibels(squared)
    luma = _decibels(((error @ LUMA) ** 2).mean(axis=(1, 2)))
    return Psnr(
        mean=float(frames.mean()),
        minimum=float(frames.min()),
        luma=float(luma.mean()),
        identical_frames=int((squared == 0).sum()),
        frames=tuple(frames.tolist()),
    )


def psnr(reference: np.ndarray, candidate: np.ndarray) -> float:
    """The mean of the per-frame PSNR in dB; see `measure_psnr`."""
    return measure_psnr(reference, candidate).mean
