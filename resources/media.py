"""Videos for people: encoded, previewed, and laid where a browser or the Dagster UI finds them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from videogen.settings import read_settings

if TYPE_CHECKING:
    import numpy as np


class MediaResource(dg.ConfigurableResource):
    """How videos are encoded and where they are laid out. Frames are uint8, (T, H, W, 3)."""

    folder: str | None = Field(
        default=None,
        description=(
            "Where files for people go; by default `media` in the home folder. The Dagster UI shows notebooks only from"
            " below the folder that it was started in."
        ),
    )
    preview_bytes: int = Field(
        default=64 * 1024,
        gt=0,
        description="The most that one moving preview may take; Dagster keeps it five-fold.",
    )

    def encode(self, frames: "np.ndarray", fps: float) -> bytes:
        """An MP4 that every browser plays. Raises InvalidFrames."""
        from videogen.media.mp4 import encode_mp4

        return encode_mp4(frames, fps)

    def preview(self, frames: "np.ndarray", fps: float, alt: str) -> dg.MarkdownMetadataValue:
        """An animated WebP within the budget, playing in the Dagster UI. Raises InvalidFrames."""
        from videogen.media.webp import animated_webp, data_uri_markdown

        return dg.MetadataValue.md(data_uri_markdown(animated_webp(frames, fps, self.preview_bytes), alt=alt))

    def notebook(self, name: str, title: str, videos: Sequence[tuple[str, bytes]]) -> dg.NotebookMetadataValue:
        """A notebook that plays (caption, MP4) pairs inside the Dagster UI, kept as `<name>.ipynb`."""
        from videogen.media.notebook import video_notebook

        return dg.MetadataValue.notebook(str(self.write(f"{name}.ipynb", video_notebook(title, videos))))

    def write(self, name: str, content: bytes) -> Path:
        """Lays a file out for people; who reads meanwhile sees the old or the new one, never a part."""
        path = Path(self.folder or read_settings().home / "media") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        being_written = path.with_name(f".{path.name}.part")
        being_written.write_bytes(content)
        being_written.rename(path)
        return path.absolute()
