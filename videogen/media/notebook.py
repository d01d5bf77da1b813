"""A notebook file that plays videos: Dagster's UI renders notebooks, and nothing else of its kind plays MP4.

Written as plain JSON (nbformat 4.5); there is no code in it, only outputs.
"""

import json
from collections.abc import Sequence
from html import escape

from videogen.media.webp import data_uri

STYLE = "display:inline-block;vertical-align:top;width:{width}px;margin:6px;font:13px system-ui,sans-serif"


def _player(caption: str, mp4: bytes, width: int) -> str:
    words = "<br>".join(escape(line) for line in caption.splitlines())
    return (
        f'<figure style="{STYLE.format(width=width)}">'
        f'<video controls loop autoplay muted playsinline width="{width}" src="{data_uri(mp4, "video/mp4")}"></video>'
        f"<figcaption>{words}</figcaption></figure>"
    )


def video_notebook(title: str, videos: Sequence[tuple[str, bytes]], width: int = 192) -> bytes:
    """The bytes of an .ipynb with `title` and a player for each (caption, MP4) of `videos`."""
    players = "".join(_player(caption, mp4, width) for caption, mp4 in videos)
    output = {"output_type": "display_data", "metadata": {}, "data": {"text/html": players}}
    cells = [
        {"id": "title", "cell_type": "markdown", "metadata": {}, "source": f"# {title}"},
        {
            "id": "videos",
            "cell_type": "code",
            "metadata": {},
            "execution_count": None,
            "source": "",
            "outputs": [output],
        },
    ]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}).encode()
