import base64
import io

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import moving_square
from videogen.errors import InvalidFrames, MediaError
from videogen.media.webp import animated_webp, data_uri_markdown


def pictures(data: bytes) -> list[np.ndarray]:
    """The pictures of an animated WebP."""
    with Image.open(io.BytesIO(data)) as image:
        shown = []
        for index in range(image.n_frames):
            image.seek(index)
            shown.append(np.asarray(image.convert("RGB")))
        return shown


def test_the_preview_moves_like_the_clip():
    shown = pictures(animated_webp(moving_square(), fps=8))
    assert len(shown) == 16
    assert shown[0].shape == (64, 64, 3)
    left_to_right = [frame[40, :, 0].argmax() for frame in shown]
    assert left_to_right[0] < left_to_right[8] < left_to_right[15]


def test_it_loops_at_the_clips_rate():
    with Image.open(io.BytesIO(animated_webp(moving_square(), fps=8))) as image:
        assert image.info["loop"] == 0
        image.seek(1)
        image.load()
        assert image.info["duration"] == 125


def test_scale_enlarges_the_picture():
    assert pictures(animated_webp(moving_square(), fps=8, scale=3))[0].shape == (192, 192, 3)


@pytest.mark.parametrize("budget", [65_536, 20_000, 5_000])
def test_noise_fits_into_the_budget(budget: int):
    noise = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
    data = animated_webp(noise, fps=8, budget_bytes=budget, scale=2)
    assert len(data) <= budget
    assert len(pictures(data)) == 16


def test_a_budget_too_small_for_anything_is_an_error():
    with pytest.raises(MediaError, match="fits into 100 bytes"):
        animated_webp(moving_square(), fps=8, budget_bytes=100)


def test_frames_are_checked():
    with pytest.raises(InvalidFrames):
        animated_webp(np.zeros((16, 64, 64)), fps=8)


def test_markdown_holds_the_picture_and_a_harmless_text():
    words = data_uri_markdown(b"picture", alt="a](http://elsewhere) <b>\nring")
    assert words.count("](") == 1
    head, _, payload = words.partition("](data:image/webp;base64,")
    assert base64.b64decode(payload.removesuffix(")")) == b"picture"
    assert "\n" not in head
    assert "<" not in head
