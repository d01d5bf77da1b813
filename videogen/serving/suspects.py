"""Who pays for a death of the engine process, so that a job that kills it cannot do so for ever."""

from collections import Counter
from collections.abc import Collection, Iterable

MOST_DEATHS = 2
"""Of processes that held a job, without it being known to be the cause, before it is given to one alone."""


class Suspects:
    """Jobs that were with a process that died; all by their ids.

    What was in a call as of the process's last word is to blame. That word may be missing, or be older than the call
    that killed it: whatever was held by `MOST_DEATHS` processes that died is given to the next one alone, one after the
    other and before anything else, so that a further death has one cause.
    """

    def __init__(self) -> None:
        self.alone: str | None = None
        """The one that the process has now, and has alone."""
        self._deaths = Counter[str]()

    def died(self, busy: Collection[str], held: Collection[str]) -> list[str]:
        """A process died that held these, and was known to be busy with some of them. Gives those that are to blame."""
        blamed = list(held) if len(held) == 1 else [one for one in held if one in busy]
        self._deaths.update(one for one in held if one not in blamed)
        for one in blamed:
            self.ended(one)
        self.alone = None
        return blamed

    def next(self, waiting: Iterable[str]) -> list[str]:
        """Those to give now, of those that wait for the engine: all of them, but for suspects one alone."""
        if self.alone is not None:
            return []
        waiting = list(waiting)
        self.alone = next((one for one in waiting if self._deaths[one] >= MOST_DEATHS), None)
        return waiting if self.alone is None else [self.alone]

    def ended(self, job_id: str) -> None:
        """It is with the engine no more."""
        self._deaths.pop(job_id, None)
        if job_id == self.alone:
            self.alone = None
