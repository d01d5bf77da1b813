"""What becomes of a request: answered with a video, refused for now, or failed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["answered", "refused", "failed"]
STREAMS = "start the service with VIDEOGEN_TENANT_STREAMS=1000 for more"


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


def refused(code: str, message: str, *, says_when: bool) -> Answer:
    """A refusal. One for want of streams says what sets their number; other messages tell of one moment, and are left
    out: those of a kind are counted together."""
    why = f"{code}: {message}; {STREAMS}" if "streams at once" in message else code
    return Answer("refused", why, says_when)


def is_mp4(data: bytes) -> bool:
    """Does it begin as an MP4 does, and hold an index of its frames?"""
    return data[4:8] == b"ftyp" and b"moov" in data
