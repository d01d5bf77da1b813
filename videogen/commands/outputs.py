"""The files that commands write videos to."""

import re
from pathlib import Path

from videogen.errors import InvalidRequest

MOST_CHARACTERS = 80


def require_mp4(path: Path | None) -> None:
    """Raises InvalidRequest for a name that promises another format than what is written."""
    if path is not None and path.suffix.lower() != ".mp4":
        raise InvalidRequest("output", str(path), "a file whose name ends in .mp4; no other format is written")


def slug(text: str) -> str:
    """A file's name made of the words of `text`: lower case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:MOST_CHARACTERS].rstrip("-") or "video"
