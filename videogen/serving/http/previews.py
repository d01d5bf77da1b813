"""Pictures of a video, made when they are asked for: a thumbnail as WebP, a sheet of its frames as JPEG."""

import asyncio
import io
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal

import numpy as np
from PIL import Image

from videogen.media.contact_sheet import wall
from videogen.media.mp4 import decode_mp4
from videogen.media.webp import animated_webp

Variant = Literal["thumbnail", "spritesheet"]
MEDIA_TYPES: dict[Variant, str] = {"thumbnail": "image/webp", "spritesheet": "image/jpeg"}
SHEET_FRAMES, SHEET_COLUMNS = 16, 4
JPEG_QUALITY = 85
MAX_CACHED_BYTES = 16 * 1024 * 1024
AT_ONCE = 1
"""Videos that are decoded at a time: the device's cores are for generation."""


def draw(mp4: bytes, variant: Variant) -> bytes:
    """The picture. Raises UndecodableVideo."""
    frames = decode_mp4(mp4)
    if variant == "thumbnail":
        middle = len(frames) // 2
        return animated_webp(frames[middle : middle + 1], fps=1)
    chosen = np.linspace(0, len(frames) - 1, min(SHEET_FRAMES, len(frames))).round().astype(int)
    sheet = wall([frames[index : index + 1] for index in chosen], SHEET_COLUMNS)[0]
    out = io.BytesIO()
    Image.fromarray(sheet).save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


class Previews:
    """Pictures by the video's digest, the latest kept in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, Variant], bytes] = OrderedDict()
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def get(self, digest: str, variant: Variant, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """The picture of the video that `read` gives; it is not read where the picture is kept."""
        key = digest, variant
        if key not in self._kept:
            async with self._turn:
                if key not in self._kept:
                    self._keep(key, await asyncio.to_thread(draw, await read(), variant))
        self._kept.move_to_end(key)
        return self._kept[key]

    def _keep(self, key: tuple[str, Variant], picture: bytes) -> None:
        self._kept[key] = picture
        while sum(map(len, self._kept.values())) > MAX_CACHED_BYTES and len(self._kept) > 1:
            self._kept.popitem(last=False)
