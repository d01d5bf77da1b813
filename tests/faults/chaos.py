"""Writers, claimers and readers on one store while they and its servers are stopped and killed at random times."""

import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.audit import Audit, audit
from tests.faults.journal import notes
from tests.faults.servers import Servers
from tests.faults.worker import LIMITS, patiently
from tests.fixtures.servers import send
from videogen.store.records import LIVE_STATES
from videogen.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("submit", "submit", "claim", "claim", "claim", "read")
BETWEEN_S = 1.0
"""At most, from one fault to the next."""
SERVER_STOP_S = (0.1, 2.5)
WORKER_STOP_S = (2.0, 4.0)
"""Longer than a lease: a worker that was stopped for so long finds that another has taken its work over."""
DEAD_S = (0.6, 1.5)
"""From a server's kill to its start."""
ENOUGH = 100
"""Requests: a slow machine's workers go on after the last fault until so many are accepted."""
DRAIN_S = 100.0
"""At most, until nothing is live; what still is, is lost."""


@dataclass(frozen=True)
class Setting:
    """A row of the table: what keeps the store, and how many faults of each kind it has to stand.

    `window_s`: how long before the kill of a server a promise may have been made that the kill undoes; None: never.
    `is_promised`: does anything hold but that no video is torn?
    """

    name: str
    servers: Callable[[Path], AbstractContextManager[Servers]]
    worker_kills: int
    worker_stops: int = 3
    server_stops: int = 0
    server_kills: int = 0
    window_s: float | None = None
    is_promised: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a run of one setting came to. `seconds` are those of the whole run."""

    setting: Setting
    seed: int
    seconds: float
    audit: Audit


def run(setting: Setting, folder: Path, seed: int) -> Outcome:
    """Faults, then a drain by the workers that are left, then the audit. Raises AssertionError if a worker fails."""
    start = time.monotonic()
    journals = folder / "journals"
    journals.mkdir()
    with setting.servers(folder) as servers:
        crowd = Crowd(servers.url, journals, seed)
        try:
            kills = _faults(setting, servers, crowd, random.Random(seed))
            servers.settle()
            _until(lambda: sum(note.what == "accepted" for note in notes(journals)) >= ENOUGH)
            with Store.open(servers.url, LIMITS) as store:
                crowd.end("submit")
                _until(lambda: not store.requests(LIVE_STATES, limit=1))
                crowd.end("claim", "read")
                found = patiently(lambda: audit(store, notes(journals), kills, setting.window_s))
        finally:
            crowd.end(*ROLES)
    return Outcome(setting, seed, time.monotonic() - start, found)


def _faults(setting: Setting, servers: Servers, crowd: "Crowd", dice: random.Random) -> list[float]:
    """All faults of the setting in a random order; gives the times at which servers were killed."""
    kinds = ["kill a worker"] * setting.worker_kills + ["stop a worker"] * setting.worker_stops
    kinds += ["stop a server"] * setting.server_stops + ["kill a server"] * setting.server_kills
    dice.shuffle(kinds)
    kills: list[float] = []
    for kind in kinds:
        time.sleep(dice.uniform(0, BETWEEN_S))
        if kind == "kill a worker":
            crowd.kill_one(dice)
        elif kind == "stop a worker":
            crowd.stop_one(dice)
        elif kind == "stop a server":
            which = dice.randrange(servers.count)
            servers.settle()
            servers.send(which, signal.SIGSTOP)
            time.sleep(dice.uniform(*SERVER_STOP_S))
            servers.send(which, signal.SIGCONT)
        else:
            which = dice.randrange(servers.count)
            kills.append(servers.kill(which))
            time.sleep(dice.uniform(*DEAD_S))
            servers.start(which)
    return kills


def _until(holds: Callable[[], bool]) -> None:
    """Waits, but not for ever: what the audit then finds is told."""
    deadline = time.monotonic() + DRAIN_S
    while not patiently(holds) and time.monotonic() < deadline:
        time.sleep(0.3)


class Crowd:
    """The workers; whoever is killed is followed by another in the same role."""

    def __init__(self, url: str, journals: Path, seed: int) -> None:
        self.url, self.journals, self.seed, self.started = url, journals, seed, 0
        self.workers = [self._start(role) for role in ROLES]

    def _start(self, role: str) -> "Worker":
        self.started += 1
        return Worker(role, self.url, self.journals, f"{role}-{self.seed}-{self.started}")

    def kill_one(self, dice: random.Random) -> None:
        victim = self._one_at_work(dice, *ROLES)
        victim.end()
        self.workers.remove(victim)
        self.workers.append(self._start(victim.role))

    def stop_one(self, dice: random.Random) -> None:
        victim = self._one_at_work(dice, "claim")
        send(victim.process, signal.SIGSTOP)
        time.sleep(dice.uniform(*WORKER_STOP_S))
        send(victim.process, signal.SIGCONT)

    def _one_at_work(self, dice: random.Random, *roles: str) -> "Worker":
        deadline = time.monotonic() + 30
        while not (at_work := [one for one in self.workers if one.role in roles and one.is_at_work()]):
            assert time.monotonic() < deadline, "no worker begins its work"
            time.sleep(0.05)
        return dice.choice(at_work)

    def end(self, *roles: str) -> None:
        for worker in [worker for worker in self.workers if worker.role in roles]:
            self.workers.remove(worker)
            worker.end()


class Worker:
    """One process."""

    def __init__(self, role: str, url: str, journals: Path, name: str) -> None:
        self.role, self.name = role, name
        self.journal, self.log = journals / f"{name}.jsonl", journals / f"{name}.log"
        command = [sys.executable, "-m", "tests.faults.worker", role, url, str(journals), name]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)

    def is_at_work(self) -> bool:
        return self.journal.exists() and self.journal.stat().st_size > 0

    def end(self) -> None:
        """Kills it. Raises AssertionError with what it said if it had ended by itself."""
        was_there = self.process.poll() is None
        self.process.kill()
        self.process.wait()
        assert was_there, f"{self.name} ended by itself: {self.log.read_text()[-3000:]}"
