"""The pixel oracle: says what a clip of the captioned world shows, by measuring its pixels.

It shares no code, template or constant with the renderer, only the names of the attributes. What it takes for
granted is what a viewer of that world would: one bright shape before a darker, unmoving background. Every name is
given only on a real match; whatever lies between two names, or is broken, smeared or doubled, is None.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from videogen.quality.figures import Figure, area_of, match_figure
from videogen.quality.patterns import name_background
from videogen.world.grammar import FIELDS

BRIGHT = 0.6
"""A shape's brightest channel is above this, a background's below."""
PRESENT = (0.008, 0.45)
"""The share of the frame a whole shape may cover."""
FAINT = 0.15
"""Cover below this is taken for the background's own texture, cover above 1 - FAINT for the shape's inside."""
GHOST = 0.2
"""A pixel this far from the unmoving background, and not bright, belongs to something that isn't the shape."""
SPECK = 0.12
"""A second bright region of more than this share of the first is a second shape."""
STEADY = 7 / 8
"""The share of frames that must agree with the verdict on the whole clip."""

HUES = {
    "red": (-14, 13),
    "orange": (20, 43),
    "yellow": (47, 68),
    "green": (95, 150),
    "cyan": (168, 200),
    "blue": (212, 250),
    "pink": (293, 332),
}
"""Hue in degrees (HSV). The gaps between the bands belong to no name."""

WIDTHS = {"small": 1.0, "medium": 1.4, "large": 1.9}
SMALLEST = {"circle": 0.156, "square": 0.195, "triangle": 0.180, "star": 0.175, "ring": 0.156}
"""From the centre to the farthest point of each small shape, over the frame's height: medians of 500 true clips."""
STAR_DEPTH = 0.46
"""How far the inner corners of a star on true clips seem to reach towards its tips."""
SIZE_TOLERANCE = 0.13
"""Largest |log| ratio between a measured and a nominal size; neighbours are 0.34 and 0.31 apart."""
UNMOVING = 0.055
"""Largest mean change of an uncovered pixel's colour from its mean over the clip."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a clip shows: a key of `WORDS[field]` for each field, None where the pixels don't say."""

    size: str | None
    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None

    def value(self, field: str) -> str | None:
        """The verdict on one of `FIELDS`."""
        if field not in FIELDS:
            raise ValueError(f"field: got {field!r}, allowed are {', '.join(FIELDS)}")
        return getattr(self, field)


def judge(frames: np.ndarray) -> Verdict:
    """The verdict on one clip, frames (T, H, W, 3) uint8 RGB with T of at least 8.

    Raises ValueError for an array of another shape or type.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) < 8:
        raise ValueError(f"frames: got {frames.dtype} {frames.shape}, allowed is uint8 (T, H, W, 3) with T >= 8")
    pixels = frames.astype(np.float32) / 255
    bright = _peak(pixels) > BRIGHT
    ground = _ground(pixels, bright)
    background = name_background(ground.colour, ground.seen) if _is_unmoving(ground) else None
    subject = _subject(pixels, bright, ground)
    if subject is None:
        return Verdict(None, None, None, None, background)
    figure = match_figure(subject.cover, subject.area, subject.centre, subject.present, STEADY)
    shape = None if figure is None else figure[0]
    return Verdict(_name_size(subject, figure), _name_colour(subject), shape, _name_motion(subject), background)


def judge_many(clips: Iterable[np.ndarray]) -> list[Verdict]:
    """`judge` for each clip."""
    return [judge(clip) for clip in clips]


# --- finding the shape and what lies behind it


@dataclass(frozen=True, slots=True)
class _Ground:
    colour: np.ndarray  # (H, W, 3), the mean over the frames in which the pixel is uncovered
    seen: np.ndarray  # (H, W) bool, uncovered in some frame
    uncovered: np.ndarray  # (T, H, W) bool
    difference: np.ndarray  # (T, H, W, 3), each frame's from `colour`
    change: np.ndarray  # (T, H, W), its greatest channel


@dataclass(frozen=True, slots=True)
class _Subject:
    cover: np.ndarray  # (T, H, W), how much of each pixel the shape covers
    area: np.ndarray  # (T,), pixels
    centre: np.ndarray  # (T, 2), y and x in pixels
    present: np.ndarray  # (T,) bool
    pixels: np.ndarray  # (T, H, W, 3)
    solid: np.ndarray  # (T, H, W) bool, inside the shape and off its edge
    paint: np.ndarray  # (3,), its colour


def _peak(values: np.ndarray) -> np.ndarray:
    """The greatest of the three channels; ten times as fast as `max(axis=-1)`."""
    return np.maximum(np.maximum(values[..., 0], values[..., 1]), values[..., 2])


def _grow(mask: np.ndarray, by: int) -> np.ndarray:
    grown = ndimage.maximum_filter1d(mask.astype(np.uint8), 2 * by + 1, axis=1, mode="constant")
    return ndimage.maximum_filter1d(grown, 2 * by + 1, axis=2, mode="constant").astype(bool)


def _ground(pixels: np.ndarray, bright: np.ndarray) -> _Ground:
    uncovered = ~_grow(bright, 3)
    count = uncovered.sum(axis=0)
    seen = count > 0
    total = np.einsum("thwc,thw->hwc", pixels, uncovered.astype(np.float32))
    colour = total / np.maximum(count, 1)[..., None]
    colour[~seen] = colour[seen].mean(axis=0) if seen.any() else 0.0
    difference = pixels - colour
    return _Ground(colour, seen, uncovered, difference, _peak(np.abs(difference)))


def _largest_regions(bright: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The largest bright region of each frame, (T, H, W) bool, and whether it stands alone, (T,) bool."""
    within_frame = np.zeros((3, 3, 3), dtype=bool)
    within_frame[1] = True
    labels, count = ndimage.label(bright, within_frame)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    largest, alone = np.zeros(len(bright), dtype=int), np.zeros(len(bright), dtype=bool)
    for index, frame in enumerate(labels):
        here = np.where(np.bincount(frame.ravel(), minlength=count + 1) > 0, sizes, -1)
        largest[index] = here.argmax()
        first, second = here[largest[index]], np.delete(here, largest[index]).max(initial=0)
        alone[index] = first > 0 and second <= SPECK * first
    return (labels == largest[:, None, None]) & bright, alone


def _subject(pixels: np.ndarray, bright: np.ndarray, ground: _Ground) -> _Subject | None:
    """The one shape of the clip, or None where most frames have none, or more than one."""
    region, alone = _largest_regions(bright)
    share = region.mean(axis=(1, 2))
    ghost = (ground.change > GHOST) & ground.uncovered
    present = alone & (share > PRESENT[0]) & (share < PRESENT[1]) & (ghost.mean(axis=(1, 2)) < 2 * SPECK * share)
    if present.mean() < STEADY:
        return None
    inner = ~_grow(~region, 1)
    solid = inner & present[:, None, None]
    if solid.sum() < 3 * present.sum():
        return None
    paint = np.median(pixels[solid], axis=0)
    contrast = paint - ground.colour
    cover = np.einsum("thwc,hwc->thw", ground.difference, contrast / (contrast**2).sum(-1, keepdims=True))
    cover = np.where(_grow(region, 3), np.clip((cover - FAINT) / (1 - 2 * FAINT), 0, 1), 0)
    area = cover.sum(axis=(1, 2))
    rows, columns = np.arange(cover.shape[1]), np.arange(cover.shape[2])
    mass = np.maximum(area, 1e-6)
    centre = np.stack([cover.sum(axis=2) @ rows / mass, cover.sum(axis=1) @ columns / mass], axis=1)
    return _Subject(cover, area, centre, present, pixels, solid, paint)


def _is_unmoving(ground: _Ground) -> bool:
    uncovered = ground.uncovered.astype(np.float32)
    per_frame = np.einsum("thw,thw->t", ground.change, uncovered) / np.maximum(uncovered.sum(axis=(1, 2)), 1)
    return bool(np.mean(per_frame < UNMOVING) >= STEADY)


# --- colour


def _hue_name(colour: np.ndarray) -> str | None:
    value, spread = colour.max(), colour.max() - colour.min()
    if value < 0.7:
        return None
    if spread < 0.18 * value:
        return "white"
    if spread < 0.5 * value:
        return None
    red, green, blue = colour
    sector = {0: (green - blue) / spread, 1: 2 + (blue - red) / spread, 2: 4 + (red - green) / spread}
    hue = 60 * sector[int(colour.argmax())] % 360
    return next((n for n, (low, high) in HUES.items() if low <= hue <= high or low <= hue - 360 <= high), None)


def _name_colour(subject: _Subject) -> str | None:
    name = _hue_name(subject.paint)
    inside = subject.pixels[subject.solid]
    alike = np.abs(inside - subject.paint).max(axis=1) < 0.2
    if name is None or alike.mean() < 0.85:
        return None
    weight = np.maximum(subject.solid.sum(axis=(1, 2)), 1)[:, None]
    means = np.einsum("thwc,thw->tc", subject.pixels, subject.solid.astype(np.float32)) / weight
    return name if np.mean([_hue_name(mean) == name for mean in means]) >= STEADY else None


# --- size


def _name_size(subject: _Subject, figure: Figure | None) -> str | None:
    """Needs the figure: a triangle as wide as a disc has half its area."""
    if figure is None:
        return None
    name, inner = figure
    if name == "star":  # softening fills its inner corners and wears its tips, so half of a shallow depth is softness
        inner = (inner + STAR_DEPTH) / 2
    reach = np.sqrt(np.maximum(subject.area, 1) / area_of(name, inner)) / subject.cover.shape[1]
    log_size = np.log(reach / SMALLEST[name])
    typical = float(np.median(log_size[subject.present]))
    if np.mean(np.abs(log_size - typical) < SIZE_TOLERANCE) < STEADY:
        return None
    return next((n for n, width in WIDTHS.items() if abs(typical - math.log(width)) < SIZE_TOLERANCE), None)


# --- motion


def _turns(track: np.ndarray, least: float) -> int:
    """How often a track (T,) turns back by at least `least`."""
    turns, direction, extreme = 0, 0, track[0]
    for value in track[1:]:
        if direction == 0:
            direction = int(np.sign(value - extreme)) if abs(value - extreme) >= least else 0
            extreme = value if direction else extreme
        elif (value - extreme) * direction >= 0:
            extreme = value
        elif abs(value - extreme) >= least:
            turns, direction, extreme = turns + 1, -direction, value
    return turns


def _is_circling(y: np.ndarray, x: np.ndarray) -> bool:
    y, x = y - (y.max() + y.min()) / 2, x - (x.max() + x.min()) / 2
    radius = np.hypot(y, x)
    steps = np.diff(np.unwrap(np.arctan2(y, x)))
    even = radius.std() < 0.2 * radius.mean() and np.abs(steps).max() < math.radians(75)
    return bool(even and abs(steps.sum()) > math.radians(290))


def _name_motion(subject: _Subject) -> str | None:
    """From the path of the centre; distances are shares of the frame's height."""
    frames = np.arange(len(subject.present))
    here = frames[subject.present]
    y, x = (np.interp(frames, here, subject.centre[here, axis]) / subject.cover.shape[1] for axis in (0, 1))
    span_y, span_x = float(np.ptp(y)), float(np.ptp(x))
    if max(span_y, span_x) < 0.045:
        return "still"
    if min(span_y, span_x) > 0.15:
        return "circle" if _is_circling(y, x) else None
    if min(span_y, span_x) > 0.06 or max(span_y, span_x) < 0.15:
        return None
    horizontal = span_x > span_y
    along, span = (x, span_x) if horizontal else (y, span_y)
    travel, leap = (along[-1] - along[0]) / span, float(np.abs(np.diff(along)).max()) / span
    halves = [abs(half[-1] - half[0]) / span for half in np.array_split(along, 2)]
    if abs(travel) > 0.9 and _turns(along, 0.1 * span) == 0 and leap < 0.25 and min(halves) > 0.25:
        forward, backward = ("right", "left") if horizontal else ("down", "up")
        return forward if travel > 0 else backward
    if leap > 0.5 or abs(travel) > 0.5:
        return None
    if horizontal:
        return "sway" if _turns(along, 0.2 * span) == 2 else None
    return "bounce" if _turns(along, 0.5 * span) == _turns(along, 0.2 * span) == 3 else None
