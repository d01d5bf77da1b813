import numpy as np
import pytest

from tests.media.clips import moving_square
from videogen.errors import InvalidFrames
from videogen.quality.temporal import anomalies, measure_clip
from videogen.world.grammar import combinations
from videogen.world.renderer import render


def world_clips(count: int = 40) -> list[tuple[np.ndarray, bool]]:
    """True clips of the captioned world, and whether each is meant to move."""
    every = list(combinations())
    chosen = [every[index] for index in np.random.default_rng(0).choice(len(every), count, replace=False)]
    clips = [render(attributes, seed).permute(0, 2, 3, 1).numpy() for seed, attributes in enumerate(chosen)]
    moves = [attributes.motion != "still" for attributes in chosen]
    return [((clip * 255).round().astype(np.uint8), moving) for clip, moving in zip(clips, moves, strict=True)]


def found(clip: np.ndarray, moves: bool = True) -> list[str]:
    return list(anomalies(measure_clip(clip), moves))


def test_true_clips_have_nothing_wrong():
    assert [found(clip, moves) for clip, moves in world_clips()] == [[]] * 40


def test_a_known_clip_gives_known_numbers():
    clip = np.zeros((5, 4, 4, 3), np.uint8)
    clip[:, :, :2] = 255  # half white
    clip[2] = 255 - clip[2]  # inverted once
    measures = measure_clip(clip)
    assert measures.motion == pytest.approx(255 / 2)  # two of four steps change everything
    assert measures.dup_frac == pytest.approx(0.5)
    assert measures.tci is None  # first and last frame are equal
    assert measures.lum_flicker == pytest.approx(0.0)
    assert measures.clipped_frac == 1.0


def test_a_blinking_clip_flickers():
    blinking = moving_square().astype(int) + np.where(np.arange(16) % 2, 16, 0)[:, None, None, None]
    assert "flickering" in found(blinking.clip(0, 255).astype(np.uint8))


def test_a_shuffled_clip_is_incoherent():
    clip = moving_square()
    order = np.random.default_rng(0).permutation(16)
    assert found(clip) == []
    assert "incoherent" in found(clip[order])


def test_a_clip_that_should_move_and_does_not_is_frozen():
    frozen = np.repeat(moving_square()[:1], 16, axis=0)
    assert found(frozen) == ["frozen"]
    assert found(frozen, moves=False) == []


def test_black_and_blank_frames_are_told_apart():
    clip = moving_square()
    black, blank = clip.copy(), clip.copy()
    black[7] = 3
    blank[7] = 140
    assert "black" in found(black)
    assert "blank" not in found(black)
    assert "blank" in found(blank)
    assert "black" not in found(blank)


def test_values_that_are_no_numbers_are_counted():
    clip = moving_square().astype(np.float32) / 255
    assert measure_clip(clip) == measure_clip(moving_square())
    clip[3, 0, 0, 0] = np.nan
    clip[4, 0, 0, :2] = np.inf
    assert measure_clip(clip).non_finite == 3
    assert "not finite" in found(clip)


def test_blur_lowers_sharpness():
    clip = moving_square().astype(float)
    blurred = (clip + np.roll(clip, 1, axis=1) + np.roll(clip, 1, axis=2) + np.roll(clip, (1, 1), axis=(1, 2))) / 4
    assert measure_clip(blurred.astype(np.uint8)).sharpness < measure_clip(moving_square()).sharpness / 2


@pytest.mark.parametrize("frames", [1, 2, 4])
def test_short_clips_have_what_can_be_measured(frames: int):
    measures = measure_clip(moving_square(frames=frames))
    assert measures.tci is None
    assert measures.sharpness > 0


def test_what_is_no_clip_is_refused():
    with pytest.raises(InvalidFrames):
        measure_clip(np.zeros((16, 64, 64), np.uint8))
