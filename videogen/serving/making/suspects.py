"""Who pays for a death of the engine process, so that a job that kills it cannot do so for ever, nor ruin others."""

from collections import Counter
from collections.abc import Collection, Sequence

MOST_DEATHS = 2
"""Of processes that held a job, without it being known to be the cause, before it is given to one alone."""


class Suspects:
    """Jobs that were with a process that died; all by their ids.

    What was in a call as of the process's last word is to blame. That word may be missing, or be older than the call
    that killed it: whatever was held by `MOST_DEATHS` processes that died is given to the next one alone, one after the
    other and before anything else, so that a further death has one cause. So is what has one attempt left: nobody fails
    for having been in a call with what killed it.
    """

    def __init__(self) -> None:
        self.alone: str | None = None
        """The one that the process has now, and has alone."""
        self.holds_back = False
        """Does everything else wait for one that is, or is to be, alone?"""
        self._deaths = Counter[str]()

    def died(self, busy: Collection[str], held: Sequence[str]) -> list[str]:
        """A process died that held these, and was known to be busy with some of them. Gives those that are to blame."""
        blamed = list(held) if len(held) == 1 else [one for one in held if one in busy]
        self._deaths.update(one for one in held if one not in blamed)
        for one in blamed:
            self.ended(one)
        self.alone = None
        return blamed

    def next(self, waiting: Sequence[str], last_chances: Collection[str], *, is_idle: bool) -> list[str]:
        """Those to give now, of those that wait for the engine: all, but for suspects one, to a process that `is_idle`.

        `last_chances`: those that have one attempt left of several.
        """
        if self.alone is not None:
            return []
        one = next((one for one in waiting if self._deaths[one] >= MOST_DEATHS or one in last_chances), None)
        self.holds_back = one is not None
        if one is None:
            return list(waiting)
        if not is_idle:
            return []
        self.alone = one
        return [one]

    def ended(self, job_id: str) -> None:
        """It is with the engine no more."""
        self._deaths.pop(job_id, None)
        if job_id == self.alone:
            self.alone, self.holds_back = None, False
