"""Many clips in one picture: a sheet with a row of frames per clip, or a wall of clips that move together."""

import io
import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from videogen.errors import InvalidFrames
from videogen.media.frames import check_frames

PAPER, INK, FAINT = (255, 255, 255), (28, 32, 38), (120, 126, 135)
FONT_SIZE, LINE = 15, 20
CAPTION_WIDTH, CAPTION_LETTERS = 250, 31
GAP, MARGIN = 4, 16
THUMBNAIL = 96


def _checked(clips: Sequence[np.ndarray]) -> None:
    if not clips:
        raise InvalidFrames("no clips to show")
    for index, clip in enumerate(clips):
        check_frames(clip, f"clip {index}")


def _thumbnails(clip: np.ndarray, count: int) -> list[Image.Image]:
    """`count` frames, evenly spread from first to last, each THUMBNAIL pixels high."""
    chosen = np.linspace(0, len(clip) - 1, count).round().astype(int)
    height, width = clip.shape[1:3]
    size = max(round(width * THUMBNAIL / height), 1), THUMBNAIL
    return [Image.fromarray(clip[index]).resize(size, Image.Resampling.BICUBIC) for index in chosen]


def _caption_lines(caption: str) -> list[tuple[str, tuple[int, int, int]]]:
    """The lines that fit beside the frames, with their ink: the caption's first line stands out."""
    room = THUMBNAIL // LINE
    lines = [
        (part, INK if number == 0 else FAINT)
        for number, line in enumerate(caption.splitlines())
        for part in textwrap.wrap(line, CAPTION_LETTERS) or [""]
    ]
    if len(lines) > room:
        words, ink = lines[room - 1]
        lines = [*lines[: room - 1], (words[: CAPTION_LETTERS - 1] + "…", ink)]
    return lines


def _draw_row(sheet: Image.Image, top: int, caption: str, pictures: list[Image.Image]) -> None:
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT_SIZE)
    lines = _caption_lines(caption)
    first = top + (THUMBNAIL - len(lines) * LINE) // 2
    for number, (line, ink) in enumerate(lines):
        draw.text((MARGIN, first + number * LINE), line, fill=ink, font=font)
    for column, picture in enumerate(pictures):
        sheet.paste(picture, (MARGIN + CAPTION_WIDTH + column * (picture.width + GAP), top))


def contact_sheet(clips: Sequence[np.ndarray], captions: Sequence[str], frames_per_clip: int = 8) -> bytes:
    """PNG with one row per clip, uint8 (T, H, W, 3): its caption, then frames evenly spread over its time.

    A caption may have several lines; what doesn't fit beside the frames is cut. Raises InvalidFrames.
    """
    _checked(clips)
    if len(clips) != len(captions):
        raise InvalidFrames(f"{len(clips)} clips and {len(captions)} captions; each clip needs one")
    rows = [_thumbnails(clip, min(frames_per_clip, len(clip))) for clip in clips]
    widest = max(sum(picture.width + GAP for picture in row) - GAP for row in rows)
    size = (2 * MARGIN + CAPTION_WIDTH + widest, 2 * MARGIN + len(rows) * (THUMBNAIL + GAP) - GAP)
    sheet = Image.new("RGB", size, PAPER)
    for number, (row, caption) in enumerate(zip(rows, captions, strict=True)):
        _draw_row(sheet, MARGIN + number * (THUMBNAIL + GAP), caption, row)
    out = io.BytesIO()
    sheet.save(out, "PNG", optimize=True)
    return out.getvalue()


def wall(clips: Sequence[np.ndarray], columns: int, gap: int = 2, grey: int = 128) -> np.ndarray:
    """Clips of one shape beside each other in one clip: uint8 (T, rows * H + gaps, columns * W + gaps, 3)."""
    _checked(clips)
    shapes = {clip.shape for clip in clips}
    if len(shapes) > 1:
        raise InvalidFrames(f"a wall needs clips of one shape; got {sorted(shapes)}")
    time, height, width, _ = clips[0].shape
    columns = min(columns, len(clips))
    rows = -(-len(clips) // columns)
    size = (time, rows * (height + gap) - gap, columns * (width + gap) - gap, 3)
    frames = np.full(size, grey, np.uint8)
    for index, clip in enumerate(clips):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        frames[:, y : y + height, x : x + width] = clip
    return frames
