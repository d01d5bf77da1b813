"""Kernel video distance: the unbiased squared MMD with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, KID).

Zero in expectation when both sets come from one distribution, whatever their size, so it can be read where a
Fréchet distance is mostly bias; single values may be negative. Intervals come from a bootstrap in which a clip drawn
twice is never compared with itself, which would make every resample look like a difference.
"""

from dataclasses import dataclass

import numpy as np

from videogen.errors import QualityError
from videogen.quality.frechet import check_features

LEVEL = 0.95
RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and its percentile interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _Kernels:
    """Kernel values within and between two sets; nothing is compared with itself."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray

    def distance(self, wx: np.ndarray, wy: np.ndarray) -> np.ndarray:
        """MMD^2 for rows of multiplicities (r, n) and (r, m): how often each clip is in the resample."""
        return _within(self.xx, wx) + _within(self.yy, wy) - 2 * _between(self.xy, wx, wy)


def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n, d) and (m, d) to (n, m)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(matrix: np.ndarray, weights: np.ndarray) -> np.ndarray:
    pairs = weights.sum(axis=1) ** 2 - (weights**2).sum(axis=1)
    return ((weights @ matrix) * weights).sum(axis=1) / pairs


def _between(matrix: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return ((left @ matrix) * right).sum(axis=1) / (left.sum(axis=1) * right.sum(axis=1))


def _checked(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = check_features(x, "reference"), check_features(y, "generated")
    if x.shape[1] != y.shape[1]:
        raise QualityError(f"features of {x.shape[1]} and {y.shape[1]} values cannot be compared")
    return x, y


def _kernels(x: np.ndarray, y: np.ndarray) -> _Kernels:
    xx, yy = kernel(x, x), kernel(y, y)
    np.fill_diagonal(xx, 0)
    np.fill_diagonal(yy, 0)
    return _Kernels(xx, yy, kernel(x, y))


def _resamples(count: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """Multiplicities (count, size) of draws with replacement; none is one clip only, which has no pairs."""
    weights = generator.multinomial(size, np.full(size, 1 / size), count).astype(np.float64)
    weights[(weights > 0).sum(axis=1) < 2] = 1
    return weights


def _interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def kvd(x: np.ndarray, y: np.ndarray) -> float:
    """The distance between features (n, d) and (m, d). Raises QualityError."""
    x, y = _checked(x, y)
    return float(_kernels(x, y).distance(np.ones((1, len(x))), np.ones((1, len(y))))[0])


def kvd_interval(x: np.ndarray, y: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """The distance with a bootstrap interval, both sets resampled. Raises QualityError."""
    x, y = _checked(x, y)
    generator = np.random.default_rng(seed)
    drawn = _kernels(x, y).distance(_resamples(resamples, len(x), generator), _resamples(resamples, len(y), generator))
    return Estimate(kvd(x, y), *_interval(drawn))


def kvd_difference(
    reference: np.ndarray,
    champion: np.ndarray,
    candidate: np.ndarray,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """KVD(candidate) - KVD(champion) against one reference, with an interval of confidence `level`.

    Below 0, the candidate is nearer to it.

    Rows of `champion` and `candidate` belong together (same prompt and seed) and are drawn together, so what they
    share cancels. Raises QualityError when they are not equally many.
    """
    _checked(reference, champion)
    reference, candidate = _checked(reference, candidate)
    if len(champion) != len(candidate):
        raise QualityError(f"{len(champion)} champion and {len(candidate)} candidate clips are not pairs")
    generator = np.random.default_rng(seed)
    wr, wp = (_resamples(resamples, size, generator) for size in (len(reference), len(candidate)))
    new, old = _kernels(reference, candidate), _kernels(reference, np.asarray(champion, np.float64))
    drawn = new.distance(wr, wp) - old.distance(wr, wp)
    return Estimate(kvd(reference, candidate) - kvd(reference, champion), *_interval(drawn, level))
