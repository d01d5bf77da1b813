"""Which run makes which job: each has a name of its own, so that what is said of one is never taken for another."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Forked:
    """A job that has taken over another's latents from `step` on, and waits for `EngineProcess.begin`."""

    id: str
    source: str
    step: int
    run: str


class Runs:
    """Of one engine process. `held` is jobs that it makes; `busy` those in a batch or a stage, by what it said last."""

    def __init__(self) -> None:
        self._of: dict[str, str] = {}
        self._forks: set[str] = set()
        """Runs that wait to begin."""
        self._places: dict[str, frozenset[str]] = {}
        self._numbers = itertools.count()

    @property
    def held(self) -> frozenset[str]:
        return frozenset(self._of)

    @property
    def busy(self) -> frozenset[str]:
        runs = frozenset().union(*self._places.values())
        return frozenset(job_id for job_id, run in self._of.items() if run in runs)

    def new(self, job_id: str) -> str:
        """A name that no run had yet; it makes nothing so far."""
        return f"{job_id} {next(self._numbers)}"

    def start(self, job_id: str) -> str:
        """The job is made by a new run from now on."""
        self._of[job_id] = run = self.new(job_id)
        return run

    def of(self, job_id: str) -> str | None:
        """The run that makes a job."""
        return self._of.get(job_id)

    def job_of(self, run: str) -> str | None:
        """The job that a run makes, None if it makes none any more."""
        job_id = run.rpartition(" ")[0]
        if self._of.get(job_id) == run:
            return job_id
        return next((heir for heir, of in self._of.items() if of == run), None)

    def end(self, run: str) -> str | None:
        """The job that it made."""
        if (job_id := self.job_of(run)) is not None:
            del self._of[job_id]
        return job_id

    def rename(self, job_id: str, name: str) -> None:
        """What is made under one id is from now on made under another."""
        if (run := self._of.pop(job_id, None)) is not None:
            self._of[name] = run

    def fork(self, job_id: str) -> str:
        """A run that waits to begin."""
        run = self.new(job_id)
        self._forks.add(run)
        return run

    def forgo(self, run: str) -> bool:
        """It is not to begin; False if it doesn't wait."""
        if run not in self._forks:
            return False
        self._forks.remove(run)
        return True

    def begin(self, forked: Forked, *, instead: bool) -> bool:
        """It makes its job from now on, `instead` of its source's; False, and nothing happens, if it doesn't wait."""
        if not self.forgo(forked.run):
            return False
        if instead:
            self._of.pop(forked.source, None)
        self._of[forked.id] = forked.run
        return True

    def at(self, place: str, runs: Iterable[str]) -> None:
        """Who is in the hands of a stream or stage."""
        self._places[place] = frozenset(runs)

    def keep(self, runs: Iterable[str]) -> None:
        """No others are left."""
        left = frozenset(runs)
        self._of = {job_id: run for job_id, run in self._of.items() if run in left}

    def died(self) -> None:
        """The process did: nothing is busy, and no fork can begin."""
        self._places.clear()
        self._forks.clear()

    def clear(self) -> None:
        """Nothing is held."""
        self._of.clear()
