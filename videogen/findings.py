"""What a look at some part of an installation found."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a doctor's report; a `fix` has a remedy, a command or a setting."""

    state: Literal["ok", "note", "fix"]
    what: str
    remedy: str = ""
