"""Moving previews for places that show pictures but play no video: animated WebP within a byte budget.

Dagster's UI shows `data:` pictures in Markdown and keeps every byte of them about five times in its event log,
so a preview has a budget and the full video lives elsewhere.
"""

import base64
import io

import numpy as np
from PIL import Image

from videogen.errors import MediaError
from videogen.media.frames import check_frames

BUDGET_BYTES = 64 * 1024
QUALITIES = (90, 75, 60, 40, 20)
SHRINK = 0.75
SMALLEST_SIDE = 24


def _encode(frames: np.ndarray, fps: float, scale: float, quality: int) -> bytes:
    height, width = frames.shape[1:3]
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    out = io.BytesIO()
    pictures[0].save(
        out,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=quality,
        method=4,
    )
    return out.getvalue()


def animated_webp(frames: np.ndarray, fps: float, budget_bytes: int = BUDGET_BYTES, scale: float = 1.0) -> bytes:
    """The best animated WebP of `frames`, uint8 (T, H, W, 3), that fits into `budget_bytes`; it loops for ever.

    Starts at `scale` times the clip's size and the highest quality, and gives up quality first, then size.
    Raises InvalidFrames, and MediaError when even the smallest picture doesn't fit.
    """
    check_frames(frames)
    while scale * min(frames.shape[1:3]) >= SMALLEST_SIDE:
        for quality in QUALITIES:
            data = _encode(frames, fps, scale, quality)
            if len(data) <= budget_bytes:
                return data
        scale *= SHRINK
    raise MediaError(f"no preview of a clip of shape {frames.shape} fits into {budget_bytes:,} bytes")


def data_uri(data: bytes, mime: str) -> str:
    """`data` as a data: URI, for example of mime "image/webp", "image/svg+xml" or "video/mp4"."""
    return f"data:{mime};base64,{base64.b64encode(data).decode('ascii')}"


def data_uri_markdown(data: bytes, mime: str = "image/webp", alt: str = "") -> str:
    """Markdown that shows the picture `data` in place."""
    plain = "".join(" " if character in "[]()\\\n\r`<>!" else character for character in alt)
    return f"![{plain}]({data_uri(data, mime)})"
