import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tests.quality.test_psnr import clips
from videogen.errors import InvalidFrames
from videogen.quality.ssim import ssim, ssim_frames


def scipy_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang's formula with SciPy's gaussian, truncated to eleven taps; borders cut away."""

    def mean(x: np.ndarray) -> np.ndarray:
        return gaussian_filter(x, sigma=1.5, truncate=3.5, axes=(0, 1))[5:-5, 5:-5]

    a, b = a / 255.0, b / 255.0
    ma, mb = mean(a), mean(b)
    va, vb, vab = mean(a * a) - ma * ma, mean(b * b) - mb * mb, mean(a * b) - ma * mb
    top = (2 * ma * mb + 1e-4) * (2 * vab + 9e-4)
    return float((top / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))).mean())


def test_ssim_agrees_with_scipy():
    reference, candidate = clips()
    expected = [scipy_ssim(a, b) for a, b in zip(reference, candidate, strict=True)]
    assert ssim_frames(reference, candidate) == pytest.approx(expected, abs=1e-9)


def test_identical_is_one_and_noise_is_less():
    reference, candidate = clips(noise=20)
    assert ssim(reference, reference) == pytest.approx(1.0)
    assert ssim(reference, candidate) < ssim(*clips(noise=5)) < 1.0


def test_an_inverted_picture_is_anticorrelated():
    reference, _ = clips()
    assert ssim(reference, 255 - reference) < -0.5


def test_frames_smaller_than_the_window_are_refused():
    small = np.zeros((1, 10, 64, 3), np.uint8)
    with pytest.raises(InvalidFrames, match="at least 11x11"):
        ssim(small, small)
