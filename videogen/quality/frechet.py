"""Fréchet distance between two sets of features, taken as Gaussians (Dowson and Landau 1982).

    |mean1 - mean2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)),     C with n - 1

Always in float64, and never through the square root of a matrix that isn't symmetric, whose result is complex as
soon as a covariance is singular. It is biased: two samples of one distribution are far apart when n is small.
"""

from dataclasses import dataclass

import numpy as np

from videogen.errors import QualityError


@dataclass(frozen=True, slots=True)
class Moments:
    """Running mean (d,) and scatter (d, d) of `count` features; parts taken apart from each other merge exactly."""

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both sets together (Chan et al. 1979). Raises QualityError if their widths differ."""
        if self.mean.shape != other.mean.shape:
            raise QualityError(f"features of {self.mean.size} and {other.mean.size} values cannot be merged")
        count = self.count + other.count
        delta = other.mean - self.mean
        mean = self.mean + delta * (other.count / count)
        between = np.outer(delta, delta) * (self.count * other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> np.ndarray:
        """(d, d), with n - 1. Raises QualityError below two features."""
        if self.count < 2:
            raise QualityError(f"a covariance needs at least 2 features; got {self.count}")
        return self.scatter / (self.count - 1)


def check_features(features: np.ndarray, name: str = "features") -> np.ndarray:
    """`features` as float64 (n, d). Raises QualityError when they are not that, n is below 2 or one isn't finite."""
    values = np.asarray(features, np.float64)
    if values.ndim != 2 or values.shape[0] < 2 or values.shape[1] < 1:
        raise QualityError(f"{name}: got shape {values.shape}; expected (n, d) with n at least 2")
    if not np.isfinite(values).all():
        raise QualityError(f"{name}: {int((~np.isfinite(values)).any(axis=1).sum())} of {len(values)} are not finite")
    return values


def moments(features: np.ndarray) -> Moments:
    """The moments of `features` (n, d)."""
    values = check_features(features)
    mean = values.mean(axis=0)
    centred = values - mean
    return Moments(len(values), mean, centred.T @ centred)


def _symmetric_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T


def frechet_from_moments(a: Moments, b: Moments) -> float:
    """The distance, through eigenvalues of the symmetric C1^(1/2) C2 C1^(1/2). Raises QualityError."""
    if a.mean.shape != b.mean.shape:
        raise QualityError(f"features of {a.mean.size} and {b.mean.size} values cannot be compared")
    first, second = a.covariance, b.covariance
    root = _symmetric_root(first)
    product = np.linalg.eigvalsh(root @ second @ root).clip(min=0)
    shift = float(((a.mean - b.mean) ** 2).sum())
    return max(shift + float(np.trace(first) + np.trace(second) - 2 * np.sqrt(product).sum()), 0.0)


def _from_few(x: np.ndarray, y: np.ndarray) -> float:
    """The same where n < d: tr (C1 C2)^(1/2) is the nuclear norm of X Y^T over the root of (n1 - 1)(n2 - 1)."""
    xc, yc = x - x.mean(axis=0), y - y.mean(axis=0)
    shift = float(((x.mean(axis=0) - y.mean(axis=0)) ** 2).sum())
    traces = (xc**2).sum() / (len(x) - 1) + (yc**2).sum() / (len(y) - 1)
    cross = np.linalg.svd(xc @ yc.T, compute_uv=False).sum() / np.sqrt((len(x) - 1) * (len(y) - 1))
    return max(shift + float(traces - 2 * cross), 0.0)


def frechet(x: np.ndarray, y: np.ndarray) -> float:
    """The distance between features (n, d) and (m, d), by whichever form is cheaper. Raises QualityError."""
    x, y = check_features(x, "reference"), check_features(y, "generated")
    if x.shape[1] != y.shape[1]:
        raise QualityError(f"features of {x.shape[1]} and {y.shape[1]} values cannot be compared")
    if max(len(x), len(y)) < x.shape[1]:
        return _from_few(x, y)
    return frechet_from_moments(moments(x), moments(y))
