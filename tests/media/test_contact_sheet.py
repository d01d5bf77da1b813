import io

import numpy as np
import pytest
from PIL import Image

from tests.media.clips import moving_square
from videogen.errors import InvalidFrames
from videogen.media.contact_sheet import CAPTION_WIDTH, GAP, MARGIN, THUMBNAIL, contact_sheet, wall


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = MARGIN + row * (THUMBNAIL + GAP), MARGIN + CAPTION_WIDTH + column * (THUMBNAIL + GAP)
    return sheet[top : top + THUMBNAIL, left : left + THUMBNAIL]


def test_each_row_shows_its_clip_from_first_to_last_frame():
    clips = [moving_square(colour=(235, 33, 31)), moving_square(colour=(40, 200, 60))]
    sheet = opened(contact_sheet(clips, ["red", "green"], frames_per_clip=4))
    middle = THUMBNAIL // 2 + 8
    assert cell(sheet, 0, 0)[middle, 6, 0] > 200  # the square starts at the left edge
    assert cell(sheet, 0, 3)[middle, THUMBNAIL - 6, 0] > 200  # and ends at the right one
    assert cell(sheet, 1, 0)[middle, 6, 1] > 180


def test_captions_leave_ink_beside_their_row_only():
    sheet = opened(contact_sheet([moving_square()] * 2, ["a small red square", ""]))
    ink = (sheet[:, :CAPTION_WIDTH] < 128).all(axis=2).sum(axis=1)
    assert ink[MARGIN : MARGIN + THUMBNAIL].sum() > 100
    assert ink[MARGIN + THUMBNAIL :].sum() == 0


def test_a_long_caption_stays_in_its_place():
    long = opened(contact_sheet([moving_square()] * 2, ["word " * 200, ""]))
    short = opened(contact_sheet([moving_square()] * 2, ["word", ""]))
    assert long.shape == short.shape
    assert (long[:, MARGIN + CAPTION_WIDTH :] == short[:, MARGIN + CAPTION_WIDTH :]).all()
    assert (long[MARGIN + THUMBNAIL :] == short[MARGIN + THUMBNAIL :]).all()


def test_captions_and_clips_must_match():
    with pytest.raises(InvalidFrames, match="1 clips and 2 captions"):
        contact_sheet([moving_square()], ["a", "b"])
    with pytest.raises(InvalidFrames, match="no clips"):
        contact_sheet([], [])


def test_a_wall_holds_every_clip_unchanged():
    clips = [moving_square(colour=(index * 40, 10, 10)) for index in range(5)]
    frames = wall(clips, columns=3, gap=2)
    assert frames.shape == (16, 2 * 66 - 2, 3 * 66 - 2, 3)
    assert (frames[:, 66:130, 66:130] == clips[4]).all()
    assert (frames[:, 66:130, 132:] == 128).all()


def test_a_wall_needs_one_shape():
    with pytest.raises(InvalidFrames, match="clips of one shape"):
        wall([moving_square(size=64), moving_square(size=32)], columns=2)
