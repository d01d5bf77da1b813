"""The page of what the soaks came to; each run replaces its own row."""

import os
from dataclasses import dataclass

from tests.benchmarks.shared import RESULTS, machine, table
from tests.serving.load import Outcome

PAGE = RESULTS / "service_soak.md"
HEAD = ("what", "s", "load", "accepted", "answered", "failed", "refused", "lost", "published twice", "other version")
HEAD += ("longest gap in s", "API process in MiB", "engine process in MiB")
WORDS = """
Real processes over real sockets. Callers ask for a video each, wait for it and ask again, of whichever replica answers;
they note what they are told in files outside the store, on disk before they go on. Replicas say in their logs what they
published.

- *load*: of the machine, over a quarter of an hour: other work went on beside.
- *refused*: told to come again, and accepted when they did. *lost*: accepted, and not ended in 90 s. *other version*:
  answered by another one than it was accepted for. *lost*, *published twice* and *other version* must be 0.
- *failed*: an end that says so. A request whose process is killed in three attempts fails.
- *longest gap*: between two answers to anybody, while there was load.
- *in MiB*: physical memory, the median while the third quarter of the requests was answered, and the last.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One soak. `memory`: MiB of the API process and of the engine process, before and after. "–" was not looked at."""

    what: str
    seconds: float
    outcome: Outcome | None = None
    answered: int = 0
    memory: tuple[str, str] = ("–", "–")

    @property
    def cells(self) -> list[object]:
        found, counts = self.outcome, list[object]()
        if found is None:
            counts = [self.answered, self.answered, 0, 0, 0, "–", "–", "–"]
        else:
            counts = [found.accepted, found.answered, found.failed, found.refused, found.lost, found.twice]
            counts += [found.changed, f"{found.longest_gap_s:.2f}"]
        return [self.what, f"{self.seconds:.0f}", f"{os.getloadavg()[2]:.0f}", *counts, *self.memory]


def write_row(row: Row) -> None:
    """Writes the page with this row in it, and prints the row."""
    lines = table(HEAD, [row.cells])
    text = PAGE.read_text().splitlines() if PAGE.exists() else []
    kept = [
        line
        for line in text
        if line.startswith("| ") and line.split(" | ")[0] not in ("| what", "| ---", f"| {row.what}")
    ]
    rows = sorted([*kept, lines[-1]])
    head = ["# The service in long runs", "", "`make test-soak`", "", f"{machine()}.", WORDS.rstrip()]
    PAGE.write_text("\n".join([*head, *lines[:-1], *rows]) + "\n")
    print(lines[-1])
