"""The moving picture in the README: held-out prompts and what a version made of them, all playing at once."""

import argparse
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.evaluate import ask
from videogen.evaluation import videos
from videogen.media.contact_sheet import INK, PAPER, wall
from videogen.media.webp import animated_webp
from videogen.world.renderer import FPS

SCALE, CAPTION_HEIGHT, CAPTION_LETTERS, COLUMNS = 3, 46, 27, 5
BUDGET_BYTES = 1_500_000


def captioned(clip: np.ndarray, caption: str) -> np.ndarray:
    """The clip, uint8 (T, H, W, 3), enlarged, with its prompt below it."""
    height, width = (SCALE * side for side in clip.shape[1:3])
    strip = Image.new("RGB", (width, CAPTION_HEIGHT), PAPER)
    text = "\n".join(textwrap.wrap(caption, CAPTION_LETTERS)[:3])
    ImageDraw.Draw(strip).multiline_text((4, 4), text, fill=INK, font=ImageFont.load_default(size=12), spacing=1)
    frames = [Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC) for frame in clip]
    return np.stack([np.concatenate([np.asarray(frame), np.asarray(strip)]) for frame in frames])


def main(folder: Path, count: int, out: Path) -> None:
    with TemporaryDirectory() as work:
        answers, place = ask(folder, count, Path(work))
        clips = videos(place, answers)
    shown = wall([captioned(clip, a.prompt) for clip, a in zip(clips, answers, strict=True)], COLUMNS, gap=6, grey=255)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(animated_webp(shown, FPS, BUDGET_BYTES))
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("models/videogen-tiny/2"))
    parser.add_argument("--count", type=int, default=15, help="the first prompts of the evaluation, as they come")
    parser.add_argument("--out", type=Path, default=Path("docs/videogen-tiny.webp"))
    main(**vars(parser.parse_args()))
