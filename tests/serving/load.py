"""Callers who each ask for a video, wait for it and ask again, whatever becomes of the replicas that they ask."""

import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.faults.journal import Journal, Note, notes
from tests.serving.running import Serve

PATIENCE_S = 90.0
ENDS = ("completed", "failed")


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of a load, from its journal and the replicas' logs: no store is asked.

    `lost` were accepted and did not end in time; `changed` were answered by another version than they were accepted
    for; `twice` were published more than once. `longest_gap_s`: between two ends, while there was load.
    """

    accepted: int
    answered: int
    failed: int
    lost: int
    changed: int
    twice: int
    refused: int
    longest_gap_s: float


class Load:
    """Replicas may come and go: a caller asks on until one answers. When it is left, everybody's last has ended.

    `journal` is a folder. `fields` are those of every request; each has a seed of its own. Replicas log as JSON.
    """

    def __init__(self, journal: Path, *replicas: Serve, callers: int = 3, **fields: Any) -> None:
        journal.mkdir(parents=True, exist_ok=True)
        self.folder, self.replicas, self.fields = journal, list(replicas), fields
        self._seeds = itertools.count()
        self.logs = {replica.log for replica in replicas}
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(number,)) for number in range(callers)]
        self._ended: list[str] = []
        self._errors: list[Exception] = []

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        if error is None:
            assert not self._errors, self._errors

    def add(self, replica: Serve) -> None:
        self.logs.add(replica.log)
        self.replicas.append(replica)

    def remove(self, replica: Serve) -> None:
        self.replicas.remove(replica)

    @property
    def ends(self) -> list[Note]:
        return [note for note in notes(self.folder) if note.what == "ended"]

    def until_ended(self, more: int) -> None:
        """Waits until so many more have ended."""
        wanted, deadline = len(self._ended) + more, time.monotonic() + PATIENCE_S
        while len(self._ended) < wanted:
            assert time.monotonic() < deadline and not self._errors, (len(self._ended), wanted, self._errors)
            time.sleep(0.02)

    def outcome(self) -> Outcome:
        told = notes(self.folder)
        accepted = {note.facts["id"]: note.facts for note in told if note.what == "accepted"}
        ended = {note.facts["id"]: note.facts for note in told if note.what == "ended"}
        count = Counter(facts["status"] for facts in ended.values())
        ends = [note.at for note in told if note.what == "ended"]
        return Outcome(
            accepted=len(accepted),
            answered=count["completed"],
            failed=count["failed"],
            lost=len(accepted.keys() - ended.keys()),
            changed=sum(ended[one]["version"] != facts["version"] for one, facts in accepted.items() if one in ended),
            twice=sum(times > 1 for times in Counter(_published(self.logs)).values()),
            refused=sum(note.what == "refused" for note in told),
            longest_gap_s=max((later - one for one, later in itertools.pairwise(ends)), default=0.0),
        )

    def _call(self, number: int) -> None:
        journal = Journal(self.folder / f"caller-{number}.jsonl")
        try:
            while not self._over.is_set():
                self._one(journal, next(self._seeds))
        except Exception as error:
            self._errors.append(error)

    def _one(self, journal: Journal, seed: int) -> None:
        body = {"prompt": "a red ring", "seed": seed, **self.fields}

        def submit(one: Serve) -> Mapping[str, Any] | None:
            answer = one.ask("/v1/videos", body, idempotency_key=f"{self.folder.name} {seed}")
            if "id" not in answer:
                journal.note("refused", answer=json.dumps(answer))
            return answer if "id" in answer else None

        accepted = self._patiently(submit)
        journal.note("accepted", id=accepted["id"], version=accepted["model_version"])
        ended = self._patiently(lambda one: _end_of(one, accepted["id"]))
        journal.note("ended", id=ended["id"], version=ended["model_version"], status=ended["status"])
        self._ended.append(ended["id"])

    def _patiently(self, ask: Callable[[Serve], Mapping[str, Any] | None]) -> Mapping[str, Any]:
        """What the first replica that answers says."""
        deadline, turn = time.monotonic() + PATIENCE_S, itertools.count()
        while time.monotonic() < deadline:
            replicas = list(self.replicas)
            with suppress(OSError, HTTPException, ValueError):  # it is gone, or went while it spoke
                if replicas and (answer := ask(replicas[next(turn) % len(replicas)])) is not None:
                    return answer
            time.sleep(0.03)
        raise TimeoutError(f"nobody answered in {PATIENCE_S:.0f} s")


def _end_of(one: Serve, job_id: str) -> Mapping[str, Any] | None:
    answer = one.ask(f"/v1/videos/{job_id}")
    return answer if answer.get("status") in ENDS else None


def _published(logs: Iterable[Path]) -> Iterable[str]:
    """The id of each video, once for each time that a replica says it has published it."""
    for log in logs:
        for line in log.read_text().splitlines():
            with suppress(ValueError):
                told = json.loads(line)
                if told.get("message") == "job ended" and told.get("outcome") == "completed":
                    yield told["job_id"]
