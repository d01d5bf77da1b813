"""What becomes of a request: answered with a video, refused for now, or failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["answered", "refused", "failed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """`why` there is no video. `says_when`: a refusal that tells when to come again."""

    outcome: Outcome
    why: str = ""
    says_when: bool = False


class Face(Protocol):
    """One of the service's faces, as a load uses it."""

    async def check(self) -> None:
        """Raises ServiceAway unless the service can be asked."""
        ...

    async def generate(self, fields: Mapping[str, Any]) -> Answer:
        """Asks for a video and waits for the whole MP4. Raises OSError where the connection gives none."""
        ...

    async def close(self) -> None: ...


def is_mp4(data: bytes) -> bool:
    """Does it begin as an MP4 does, and hold an index of its frames?"""
    return data[4:8] == b"ftyp" and b"moov" in data
