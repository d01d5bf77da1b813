"""What processes saw and did, kept outside the store: a file for each, on disk before its process goes on."""

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Note:
    """`at` in seconds of the machine's monotonic clock, which its processes share."""

    at: float
    what: str
    facts: dict[str, str] = field(default_factory=dict)


class Journal:
    """Appends to the file of one process."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, **facts: str) -> None:
        line = json.dumps([time.monotonic(), what, facts])
        os.write(self._file, f"{line}\n".encode())
        os.fsync(self._file)


def notes(folder: Path) -> list[Note]:
    """All of all processes in the order of their times."""
    return sorted((note for path in folder.glob("*.jsonl") for note in _notes(path)), key=lambda note: note.at)


def _notes(path: Path) -> Iterator[Note]:
    *whole, _ = path.read_text().split("\n")  # what follows the last end of a line was cut short by a kill
    yield from (Note(*json.loads(line)) for line in whole)
