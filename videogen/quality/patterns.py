"""Names a background by the statistics of its pixels: plain, a gradient, or how its pattern repeats."""

import numpy as np
from scipy import ndimage


def _autocorrelation(values: np.ndarray, seen: np.ndarray, reach: int) -> np.ndarray:
    """Correlation of an image with itself shifted by 0..reach rows and columns, over the pixels seen in both."""
    height, width = values.shape
    size = (2 * height, 2 * width)
    weights = seen.astype(np.float64)
    centred = np.where(seen, values - values[seen].mean(), 0.0)
    power = np.fft.irfft2(np.abs(np.fft.rfft2(centred, size)) ** 2, size)[: reach + 1, : reach + 1]
    pairs = np.fft.irfft2(np.abs(np.fft.rfft2(weights, size)) ** 2, size)[: reach + 1, : reach + 1]
    return power / np.maximum(pairs, 1) / max(float((centred**2).sum() / weights.sum()), 1e-9)


def _period(line: np.ndarray) -> int:
    """The first shift at which a line of correlations is high again after a dip; 0 where there is none."""
    dips = np.flatnonzero(line < 0.2)
    if not len(dips):
        return 0
    peaks = [
        d for d in range(int(dips[0]) + 1, len(line) - 1) if line[d] > 0.5 and line[d - 1] <= line[d] >= line[d + 1]
    ]
    return peaks[0] if peaks else 0


def _name_texture(level: np.ndarray, seen: np.ndarray) -> str | None:
    """Stripes, checks or dots, by how the pattern repeats."""
    reach = level.shape[0] * 5 // 16
    repeat = _autocorrelation(level, seen, reach)
    down, across = repeat[:, 0], repeat[0]
    if across.min() > 0.7 and down.min() < -0.5 and down[int(down.argmin()) :].max() > 0.5:
        return "striped"
    dip_y, dip_x = int(down.argmin()), int(across.argmin())
    if max(down[dip_y], across[dip_x]) < -0.5 and repeat[dip_y, dip_x] > 0.5:
        return "checkered"
    period_y, period_x = _period(down), _period(across)
    spread = level[seen] - level[seen].mean()
    if (
        period_y
        and period_x
        and abs(period_y - period_x) <= 1
        and max(down[period_y // 2], across[period_x // 2], repeat[period_y // 2, period_x // 2]) < 0.1
        and (spread**3).mean() > 0
    ):
        return "dotted"
    return None


def name_background(image: np.ndarray, seen: np.ndarray) -> str | None:
    """The name of a background, image (H, W, 3) in [0, 1], from its pixels where `seen` (H, W)."""
    if seen.mean() < 0.4:
        return None
    colour = ndimage.gaussian_filter(np.where(seen[..., None], image, 0), (0.7, 0.7, 0))
    colour /= np.maximum(ndimage.gaussian_filter(seen.astype(np.float32), 0.7), 1e-3)[..., None]
    mean, spread = colour[seen].mean(axis=0), colour[seen].std(axis=0)
    if spread.max() < 0.03:
        return _name_plain(mean)
    rows = (np.arange(len(colour)) / len(colour) - 0.5)[:, None] * np.ones(colour.shape[1])
    design = np.stack([np.ones(seen.sum()), rows[seen]], axis=1)
    weights, *_ = np.linalg.lstsq(design, colour[seen], rcond=None)
    rest = colour[seen] - design @ weights
    if np.abs(weights[1]).max() > 0.15 and (rest**2).mean() < 0.1 * (spread**2).mean():
        return "gradient"
    level = colour.mean(axis=-1)
    contrast = level[seen].std()
    middle, every = level.shape[0] // 2, slice(None)
    halves = [
        (every, slice(middle)),
        (every, slice(middle, None)),
        (slice(middle), every),
        (slice(middle, None), every),
    ]
    if contrast < 0.025 or any(level[h][seen[h]].std() < 0.6 * contrast for h in halves):
        return None
    return _name_texture(level, seen)


def _name_plain(mean: np.ndarray) -> str | None:
    if mean.max() < 0.12:
        return "black"
    return "grey" if mean.min() > 0.22 and np.ptp(mean) < 0.08 else None
