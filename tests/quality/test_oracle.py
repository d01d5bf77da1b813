"""The oracle against true clips, true clips of another caption, and clips that show nothing one could name."""

import dataclasses
import random

import numpy as np
import pytest
from scipy import ndimage

from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.quality.oracle import Verdict, judge, judge_many
from videogen.world.grammar import FIELDS, WORDS, Attributes, combinations
from videogen.world.renderer import FPS, render

COUNT = 400
Colour = tuple[float, float, float]
RED, DARK = (0.92, 0.13, 0.12), 0.03


def true_clip(attributes: Attributes, seed: int) -> np.ndarray:
    return (render(attributes, seed) * 255).round().byte().permute(0, 2, 3, 1).numpy()


def is_right(verdict: Verdict, attributes: Attributes) -> bool:
    return all(verdict.value(field) == getattr(attributes, field) for field in FIELDS)


def share_right(verdicts: list[Verdict], attributes: list[Attributes]) -> float:
    return float(np.mean([is_right(v, a) for v, a in zip(verdicts, attributes, strict=True)]))


@pytest.fixture(scope="module")
def captions() -> list[Attributes]:
    return random.Random(0).sample(list(combinations()), COUNT)


@pytest.fixture(scope="module")
def clips(captions: list[Attributes]) -> np.ndarray:
    return np.stack([true_clip(a, 40_000 + i) for i, a in enumerate(captions)])


@pytest.fixture(scope="module")
def verdicts(clips: np.ndarray) -> list[Verdict]:
    return judge_many(clips)


def test_true_clips_are_named(verdicts: list[Verdict], captions: list[Attributes]) -> None:
    assert share_right(verdicts, captions) >= 0.99


@pytest.mark.parametrize("field", FIELDS)
def test_clips_with_one_attribute_changed_are_refused(
    field: str, verdicts: list[Verdict], captions: list[Attributes]
) -> None:
    rng = random.Random(field)
    other = [
        dataclasses.replace(a, **{field: rng.choice([v for v in WORDS[field] if v != getattr(a, field)])})
        for a in captions
    ]
    assert share_right(verdicts, other) <= 0.01


def test_video_coding_changes_no_verdict(clips: np.ndarray, captions: list[Attributes]) -> None:
    coded = [decode_mp4(encode_mp4(clip, FPS)) for clip in clips[:100]]
    assert share_right(judge_many(coded), captions[:100]) >= 0.98


def test_mild_blur_and_noise_change_no_verdict(clips: np.ndarray, captions: list[Attributes]) -> None:
    soft = ndimage.gaussian_filter(clips[:150].astype(np.float32), (0, 0, 0.8, 0.8, 0))
    noisy = soft + np.random.default_rng(0).normal(0, 6, soft.shape)
    assert share_right(judge_many(noisy.round().clip(0, 255).astype(np.uint8)), captions[:150]) >= 0.98


# --- clips that no caption describes, painted here without the renderer


def polygon(corners: list[tuple[float, float]], y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Whether points lie in a convex polygon, corners (y, x) in order."""
    sides = [
        (xb - xa) * (y - ya) - (yb - ya) * (x - xa)
        for (ya, xa), (yb, xb) in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    return np.all(np.stack(sides) >= 0, axis=0) | np.all(np.stack(sides) <= 0, axis=0)


def regular(count: int) -> list[tuple[float, float]]:
    return [(-np.cos(2 * np.pi * k / count), np.sin(2 * np.pi * k / count)) for k in range(count)]


def wobble(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    angle = np.arctan2(y, x)
    return np.hypot(y, x) < 1 + 0.12 * np.sin(3 * angle + 1) + 0.1 * np.sin(2 * angle)


FIGURES = {
    "disc": lambda y, x: np.hypot(y, x) < 1,
    "half disc": lambda y, x: (np.hypot(y, x) < 1) & (y > 0),
    "blob": wobble,
    "ellipse": lambda y, x: np.hypot(y / 0.7, x) < 1,
    "bar": lambda y, x: np.maximum(np.abs(y) / 0.6, np.abs(x)) < 1,
    "cross": lambda y, x: (np.minimum(np.abs(x), np.abs(y)) < 0.33) & (np.maximum(np.abs(x), np.abs(y)) < 1),
    "pentagon": lambda y, x: polygon(regular(5), y, x),
    "diamond": lambda y, x: polygon(regular(4), y, x),
    "triangle upside down": lambda y, x: polygon(regular(3), -y, x),
    "between disc and square": lambda y, x: np.abs(x) ** 3.7 + np.abs(y) ** 3.7 < 1,
    "ring with a gap": lambda y, x: (np.abs(np.hypot(y, x) - 0.75) < 0.25) & ~((x > 0) & (np.abs(y) < x)),
    "square ring": lambda y, x: np.abs(np.maximum(np.abs(x), np.abs(y)) - 0.75) < 0.25,
}


def paint(figure: str, path: list[tuple[float, float]], radius: float = 14, colour: Colour = RED) -> np.ndarray:
    """Covers (16, 64, 64) of a figure centred at each (y, x) of `path`, over black, as uint8 RGB."""
    fine = (np.arange(256) + 0.5) / 4
    frames = []
    for cy, cx in path:
        y, x = np.meshgrid((fine - cy) / radius, (fine - cx) / radius, indexing="ij")
        cover = FIGURES[figure](y, x).reshape(64, 4, 64, 4).mean(axis=(1, 3))[..., None]
        frames.append(DARK + (np.array(colour) - DARK) * cover)
    return (np.stack(frames) * 255).round().astype(np.uint8)


RIGHTWARDS = [(32.0, 21.0 + 1.5 * t) for t in range(16)]
STILL = [(32.0, 32.0)] * 16


def test_the_painted_disc_is_named() -> None:
    assert judge(paint("disc", RIGHTWARDS)) == Verdict("medium", "red", "circle", "right", "black")


@pytest.mark.parametrize("figure", [name for name in FIGURES if name != "disc"])
@pytest.mark.parametrize("radius", [10, 18])
def test_other_figures_have_no_name(figure: str, radius: int) -> None:
    verdict = judge(paint(figure, STILL, radius))
    assert verdict.shape is None and verdict.size is None


def test_a_smear_is_no_circle() -> None:
    smear = ndimage.gaussian_filter(paint("disc", STILL, 10).astype(np.float32), (0, 5, 5, 0))
    assert judge((smear * 250 / smear.max()).astype(np.uint8)).shape is None


def test_two_shapes_are_no_subject() -> None:
    both = np.maximum(paint("disc", [(16.0, 16.0)] * 16, 9), paint("disc", [(44.0, 44.0)] * 16, 9))
    assert judge(both) == Verdict(None, None, None, None, "black")


def test_a_dim_second_shape_is_noticed() -> None:
    ghost = paint("disc", [(50.0, 50.0 - 2 * t) for t in range(16)], 9, (0.45, 0.4, 0.4))
    assert judge(np.maximum(paint("disc", [(18.0, 32.0)] * 16, 10), ghost)).shape is None


def test_a_flickering_shape_is_no_subject() -> None:
    clip = paint("disc", STILL)
    clip[::3] = round(DARK * 255)
    assert judge(clip) == Verdict(None, None, None, None, "black")


def test_one_lost_frame_is_forgiven() -> None:
    clip = paint("disc", RIGHTWARDS)
    clip[7] = round(DARK * 255)
    assert judge(clip).motion == "right"


@pytest.mark.parametrize("level", [0, 255])
def test_an_empty_clip_has_no_subject(level: int) -> None:
    verdict = judge(np.full((16, 64, 64, 3), level, dtype=np.uint8))
    assert verdict == Verdict(None, None, None, None, None if level else "black")


def test_noise_has_no_name_at_all() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    assert judge(noise) == Verdict(None, None, None, None, None)


BETWEEN = [(0.95, 0.72, 0.08), (0.6, 0.2, 0.95), (0.5, 0.9, 0.1), (0.95, 0.65, 0.65), (0.4, 0.1, 0.62)]


@pytest.mark.parametrize("colour", BETWEEN)
def test_a_colour_between_two_has_no_name(colour: Colour) -> None:
    assert judge(paint("disc", STILL, colour=colour)).colour is None


def test_half_red_half_blue_is_no_colour() -> None:
    clip = paint("disc", STILL)
    clip[:, :, 32:] = clip[:, :, 32:, ::-1]
    assert judge(clip).colour is None


@pytest.mark.parametrize("field", FIELDS)
def test_a_change_of_mind_mid_clip_is_refused(field: str) -> None:
    rng = random.Random(1)
    pool = random.Random(2).sample(list(combinations()), 20)
    for seed, attributes in enumerate(pool):
        other = rng.choice([v for v in WORDS[field] if v != getattr(attributes, field)])
        changed = dataclasses.replace(attributes, **{field: other})
        clip = np.concatenate([true_clip(attributes, seed)[:8], true_clip(changed, seed)[8:]])
        verdict = judge(clip)
        assert not is_right(verdict, attributes) and (field == "motion" or verdict.value(field) is None)


def test_a_jump_is_no_motion() -> None:
    assert judge(paint("disc", [(32.0, 20.0)] * 8 + [(32.0, 44.0)] * 8)).motion is None


def test_a_drift_too_short_to_tell_is_no_motion() -> None:
    assert judge(paint("disc", [(32.0, 29.0 + 0.4 * t) for t in range(16)])).motion is None


def test_a_size_between_two_has_no_name() -> None:
    assert judge(paint("disc", STILL, 11.9)).size is None
    assert judge(paint("disc", STILL, 11.9)).shape == "circle"


def test_half_a_pattern_is_no_background() -> None:
    clip = true_clip(Attributes("small", "red", "circle", "still", "checkered"), 0)
    clip[:, :, 44:] = clip[:, :1, 44:45]
    assert judge(clip).background is None


@pytest.mark.parametrize(("shape", "kind"), [((16, 64, 64), "u1"), ((16, 64, 64, 3), "f4"), ((4, 64, 64, 3), "u1")])
def test_other_arrays_are_refused(shape: tuple[int, ...], kind: str) -> None:
    with pytest.raises(ValueError, match=r"frames: got .* allowed is uint8"):
        judge(np.zeros(shape, kind))
