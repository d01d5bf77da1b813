"""Real processes on one store, some of them really killed."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.store.builders import accepted, drain_all, open_embedded
from tests.store.crashing import WatchedRecordStore
from tests.store.worker import LEASE_S
from videogen.store import batches
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.store import Store

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.store.worker", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def said(outputs: list[str], word: str) -> list[str]:
    lines = [line.split() for output in outputs for line in output.splitlines()]
    return [line[1] for line in lines if line and line[0] == word]


@pytest.mark.slow
def test_processes_that_submit_and_drain_at_once_while_some_are_killed(tmp_path):
    open_embedded(tmp_path).close()
    submitters = [start("submit", tmp_path, 0, 40), start("submit", tmp_path, 20, 40)]
    drainers = [start("drain", tmp_path, f"drainer-{i}") for i in range(3)]
    outputs, dice = [], random.Random(0)
    for number in range(3, 6):
        victim = drainers.pop(0)
        first_line = victim.stdout.readline()  # it is in the middle of its work
        time.sleep(dice.random() / 2)
        victim.kill()
        outputs.append(first_line + victim.communicate()[0])
        drainers.append(start("drain", tmp_path, f"drainer-{number}"))
    accepted_ids = said([process.communicate(timeout=100)[0] for process in submitters], "accepted")
    outputs += [process.communicate(timeout=100)[0] for process in drainers]
    assert [process.returncode for process in (*submitters, *drainers)] == [0] * 5
    assert len(accepted_ids) == 80
    with open_embedded(tmp_path) as store:
        records = [store.request(one) for one in accepted_ids]
        assert Counter(record.state for record in records) == {"done": 80}
        published = Counter(said(outputs, "published"))
        assert set(published.values()) == {1} and len({record.generation for record in records}) == 60
        assert all(store.read_video(r.video) == r.generation.encode() * 100 for r in records)
        store.recover()
        assert store._batches.open_entries() == [] and list(store._queue.entries()) == []


class Deadly(WatchedRecordStore):
    """Really kills its process before the write after `writes_left`."""

    def __init__(self, inner: EmbeddedRecordStore, writes_left: int) -> None:
        super().__init__(inner, Counter())
        self.deaths_door = writes_left

    def _count(self, write) -> None:
        """After each write."""
        self.deaths_door -= 1
        if self.deaths_door == 0:
            os.kill(os.getpid(), signal.SIGKILL)


def story(folder: Path, writes_left: int, acknowledged) -> None:
    """All of a request's life, in a process that dies before one of its writes."""
    store = Store(Deadly(EmbeddedRecordStore(folder), writes_left))
    asked = [accepted(seed) for seed in range(2)]
    for request in asked:
        store.submit(request)
        acknowledged.send(request.id)
    batch = store.seal_batch([request.id for request in asked], 0.05)
    first, second = store.claim(batch.id, "run", 0.05)
    store.publish(first, b"mp4" * 300_000, {})
    store.fail(second, "no", retry=False)
    store.finish_batch(batch.id, "run")
    acknowledged.send("end")


def test_kill_9_after_any_write_of_a_requests_life(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "SEAL_S", 0.05)
    context, writes, ended = multiprocessing.get_context("fork"), 0, False
    while not ended:
        writes += 1
        folder = tmp_path / str(writes)
        reader, writer = context.Pipe(duplex=False)
        child = context.Process(target=story, args=(folder, writes, writer))
        child.start()
        writer.close()
        child.join(60)
        acknowledged = received(reader)
        ended = "end" in acknowledged
        assert child.exitcode == (0 if ended else -signal.SIGKILL)
        time.sleep(0.06)
        with open_embedded(folder) as store:
            drain_all(store)
            records = [store.request(one) for one in acknowledged if one != "end"]
            assert {record.state for record in records} <= {"done", "failed"}
            assert all(store.read_video(r.video) if r.state == "done" else r.error == "no" for r in records)
            assert store.requests(["queued", "assigned", "running"]) == []
    assert writes > 20


def received(reader) -> list[str]:
    found = []
    while True:
        try:
            found.append(reader.recv())
        except EOFError:
            return found


def test_a_lease_outlives_no_process_for_long(tmp_path):
    with open_embedded(tmp_path) as store:
        request = accepted()
        store.submit(request)
        assert store.claim([request.id], "dead", LEASE_S)
        assert store.claim([request.id], "next", LEASE_S) == []
        time.sleep(LEASE_S)
        (claim,) = store.claim([request.id], "next", LEASE_S)
        assert claim.attempt == 2
