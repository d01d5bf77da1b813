"""Ideal figures, and which of them a silhouette is.

A shape's silhouette is compared, about its centre and at its own scale, with the geometric figure of each name: the
overlap must be high, and clearly higher than any other name's.
"""

import functools
import math

import numpy as np
from scipy import ndimage

Figure = tuple[str, float]
"""A name, and how far its inner corners or its hole reach (a key of `FIGURES` and one of its values)."""

FIGURES: dict[str, tuple[float, ...]] = {
    "circle": (0.0,),
    "square": (0.0,),
    "triangle": (0.0,),
    "star": (0.38, 0.46, 0.54, 0.62),
    "ring": (0.35, 0.45, 0.55, 0.65),
}
"""The ideal figures of each name: how far a star's inner corners, or a ring's hole, reach towards its outside."""
SOFTNESS = (0.6, 1.2)
"""Blur of the ideal figures in pixels: what sampling costs any clip, and what an autoencoder may add."""
MATCH = {"circle": 0.93, "square": 0.91, "triangle": 0.86, "star": 0.85, "ring": 0.8}
"""Smallest overlap (soft intersection over union) of the mean silhouette with an ideal one. A hole or a tip is small
and softens first, and nothing else resembles it; between disc and square lies everything from a blob to a button."""
MATCH_FRAME = 0.08
"""How much less than MATCH a single frame may have."""
DISTINCT = {"circle": 0.6, "square": 0.6, "triangle": 0.7, "star": 0.78, "ring": 0.7}
"""The best silhouette's misfit must be below this share of the best of any other name."""
HEART = 0.8
"""Every figure but a ring is covered at least this much near its centre."""
ANGLES, RADII, REACH = 60, 24, 1.9


def _polar_grid() -> tuple[np.ndarray, np.ndarray]:
    angle = 2 * np.pi * np.arange(ANGLES) / ANGLES
    radius = REACH * (np.arange(RADII) + 0.5) / RADII
    return radius * np.sin(angle)[:, None], radius * np.cos(angle)[:, None]


def _corners(kind: str, inner: float) -> list[tuple[float, float]]:
    """Corners (y, x) of a figure that reaches 1 from its centre of area, upright."""
    match kind:
        case "square":
            return [(y * math.sqrt(0.5), x * math.sqrt(0.5)) for y, x in ((-1, -1), (-1, 1), (1, 1), (1, -1))]
        case "triangle":
            return [(-math.cos(a), math.sin(a)) for a in (2 * math.pi * k / 3 for k in range(3))]
        case "star":
            reach = (1.0, inner)
            turn = [math.pi * k / 5 for k in range(10)]
            return [(-reach[k % 2] * math.cos(a), reach[k % 2] * math.sin(a)) for k, a in enumerate(turn)]
    raise ValueError(f"kind: got {kind!r}")


def area_of(kind: str, inner: float) -> float:
    """Area of the figure that reaches 1 from its centre."""
    if kind in ("circle", "ring"):
        return math.pi * (1 - inner**2)
    corners = np.array(_corners(kind, inner))
    following = np.roll(corners, -1, axis=0)
    return 0.5 * abs(float((corners[:, 1] * following[:, 0] - following[:, 1] * corners[:, 0]).sum()))


def _inside(kind: str, inner: float, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether each point lies in the figure that reaches 1 (even-odd rule for polygons)."""
    if kind in ("circle", "ring"):
        return (np.hypot(y, x) <= 1) & (np.hypot(y, x) >= inner)
    corners = np.array(_corners(kind, inner))
    inside = np.zeros(y.shape, dtype=bool)
    for (ya, xa), (yb, xb) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ya != yb:
            inside ^= ((ya > y) != (yb > y)) & (x < xa + (y - ya) * (xb - xa) / (yb - ya))
    return inside


@functools.cache
def _ideals(half_pixels: int) -> tuple[list[Figure], np.ndarray]:
    """Every ideal figure (name, inner reach) and its silhouette (figures, ANGLES, RADII).

    All have the area of a disc with a radius of `half_pixels` / 2 pixels, which is their unit of length.
    """
    cells = 161
    per_unit = (cells - 1) / 4
    y, x = np.meshgrid(np.linspace(-2, 2, cells), np.linspace(-2, 2, cells), indexing="ij")
    dy, dx = _polar_grid()
    figures, silhouettes = [], []
    for kind, inner in ((kind, inner) for kind, inners in FIGURES.items() for inner in inners):
        scale = math.sqrt(area_of(kind, inner) / math.pi)
        sharp = _inside(kind, inner, y * scale, x * scale).astype(np.float32)
        for pixels in SOFTNESS:
            soft = ndimage.gaussian_filter(sharp, pixels * per_unit / (half_pixels / 2))
            at = [dy * per_unit + cells // 2, dx * per_unit + cells // 2]
            figures.append((kind, inner))
            silhouettes.append(ndimage.map_coordinates(soft, at, order=1))
    return figures, np.stack(silhouettes)


def silhouettes(cover: np.ndarray, area: np.ndarray, centre: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Each present frame's cover in polar coordinates about its centre, in units of its equal-area radius.

    cover (T, H, W) in [0, 1], area (T,) in pixels, centre (T, 2) as y and x, present (T,) bool
    -> (present frames, ANGLES, RADII).
    """
    dy, dx = _polar_grid()
    unit = np.sqrt(area / math.pi)
    frames = np.flatnonzero(present)
    index = np.broadcast_to(frames[:, None, None], (len(frames), ANGLES, RADII))
    y = centre[frames, 0, None, None] + unit[frames, None, None] * dy
    x = centre[frames, 1, None, None] + unit[frames, None, None] * dx
    return ndimage.map_coordinates(cover, [index, y, x], order=1)


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Soft intersection over union of silhouettes (..., ANGLES, RADII)."""
    weight = np.arange(RADII) + 0.5
    return np.einsum("...ar,r->...", np.minimum(a, b), weight) / np.einsum("...ar,r->...", np.maximum(a, b), weight)


def match_figure(
    cover: np.ndarray, area: np.ndarray, centre: np.ndarray, present: np.ndarray, steady: float
) -> Figure | None:
    """The figure that the shape is, in at least the share `steady` of all frames; None where it is none of them.

    The arguments are those of `silhouettes`.
    """
    seen = silhouettes(cover, area, centre, present)
    figures, ideals = _ideals(max(6, round(2 * math.sqrt(np.median(area[present]) / math.pi))))
    mean = seen.mean(axis=0)
    overlaps = _overlap(mean, ideals)
    best = {kind: max(range(len(figures)), key=lambda i: (figures[i][0] == kind) * overlaps[i]) for kind in FIGURES}
    ranked = sorted(best, key=lambda kind: -overlaps[best[kind]])
    name, misfit, other = ranked[0], 1 - overlaps[best[ranked[0]]], 1 - overlaps[best[ranked[1]]]
    if 1 - misfit < MATCH[name] or misfit > DISTINCT[name] * other:
        return None
    if name != "ring" and mean[:, : RADII // 5].mean(axis=0).min() < HEART:
        return None
    per_frame = np.stack([_overlap(seen, ideals[best[kind]]) for kind in ranked])
    good = (per_frame.argmax(axis=0) == 0) & (per_frame[0] >= MATCH[name] - MATCH_FRAME)
    return figures[best[name]] if good.sum() / len(present) >= steady else None
