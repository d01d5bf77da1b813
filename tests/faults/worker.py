"""A process of its own that submits, claims or reads until it is killed, and keeps a journal of what it was told."""

import hashlib
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.faults.journal import Journal, notes
from tests.store.builders import accepted
from videogen.errors import LeaseLost, RecordDamaged, RecordNotFound, StoreConflict, StoreError, StoreUnavailable
from videogen.store import batches
from videogen.store.records import Claim, StoreLimits
from videogen.store.store import Store

Done = TypeVar("Done")
LEASE_S = 1.5
SEEDS = 1500
"""Videos that may be asked for: few enough that some are asked for again, while they are made and after."""
HOPELESS = 11
"""Every so manieth video cannot be made."""
LARGE = 1_200_000
"""Bytes: more than one chunk."""
LIMITS = StoreLimits(local_cache_bytes=0)


class Worker:
    """One process's store, journal and dice."""

    def __init__(self, url: str, folder: Path, name: str) -> None:
        self.name, self.folder, self.dice = name, folder, random.Random(name)
        self.journal = Journal(folder / f"{name}.jsonl")
        self.store = patiently(lambda: Store.open(url, LIMITS))

    def submit(self) -> None:
        """One video, sometimes for two requests, sometimes many in a row; tried until the store says yes."""
        for _ in range(8 if self.dice.random() < 0.1 else 1):
            seed = self.dice.randrange(SEEDS)
            for request in [accepted(seed) for _ in range(1 if self.dice.random() < 0.9 else 2)]:
                record = patiently(lambda request=request: self.store.submit(request))
                self.journal.note("accepted", id=record.id, generation=record.generation)
        time.sleep(self.dice.uniform(0, 1.0))

    def claim(self) -> None:
        """What waits, by itself or in a batch."""
        if self.dice.random() < 0.2:
            self.store.recover()
        ids = [record.id for record in self.store.waiting(limit=7)]
        if self.dice.random() < 0.5:
            self.make(self.store.claim(ids, self.name, LEASE_S, limit=3))
            return
        if ids:
            self.store.seal_batch(ids, LEASE_S)
        for batch in self.store.batches("sealed"):
            while claims := self.store.claim(batch.id, self.name, LEASE_S, limit=3):
                self.make(claims)
            self.store.finish_batch(batch.id, self.name)
        time.sleep(self.dice.uniform(0, 0.1))

    def make(self, claims: Sequence[Claim]) -> None:
        for claim in claims:
            time.sleep(self.dice.uniform(0, 0.4))
            self.store.renew(claims)
            if claim.request.request.seed % HOPELESS == 0:
                self.store.fail(claim, "this one cannot be made", retry=False)
            else:
                self.publish(claim)

    def publish(self, claim: Claim) -> None:
        """A video that nobody else makes, so that a second one for the same generation is seen."""
        size = LARGE if self.dice.random() < 0.1 else 2000
        mp4 = f"{claim.generation} {claim.token}\n".encode() + self.dice.randbytes(size)
        facts = {"generation": claim.generation, "digest": hashlib.sha256(mp4).hexdigest()}
        try:
            patiently(lambda: self.store.publish(claim, mp4, {"holder": self.name}))
        except LeaseLost:
            self.journal.note("refused", **facts)
        else:
            self.journal.note("published", **facts)

    def read(self) -> None:
        """What became of requests that were accepted; now and then one of them is cancelled."""
        known = [note.facts["id"] for note in notes(self.folder) if note.what == "accepted"]
        for one in self.dice.sample(known, min(len(known), 20)):
            try:
                self.look_at(one)
            except RecordNotFound as error:
                self.journal.note("missing", id=one, error=str(error))
            except RecordDamaged as error:
                self.journal.note("damaged", id=one, error=str(error))
        time.sleep(0.1)

    def look_at(self, one: str) -> None:
        record = self.store.request(one)
        if record.is_live and self.dice.random() < 0.02:
            record = self.store.cancel(one)
        if not record.is_live:
            self.journal.note("ended", id=one, state=record.state, video=record.video or "")
        if record.video:
            mp4 = self.store.read_video(record.video)
            whole = hashlib.sha256(mp4).hexdigest() == record.video and mp4.split()[0].decode() == record.generation
            self.journal.note("read" if whole else "torn", generation=record.generation, digest=record.video)


def patiently(work: Callable[[], Done]) -> Done:
    """Again and again while the store cannot be reached."""
    while True:
        try:
            return work()
        except StoreUnavailable:
            time.sleep(0.05)


def main(role: str, url: str, folder: str, name: str) -> None:
    batches.SEAL_S = LEASE_S
    worker = Worker(url, Path(folder), name)
    work = {"submit": worker.submit, "claim": worker.claim, "read": worker.read}[role]
    while True:
        try:
            work()
        except (StoreConflict, LeaseLost):  # another was faster
            continue
        except StoreError as error:  # the store is away, or lost something: not this worker's end
            worker.journal.note("error", error=f"{type(error).__name__}: {error}")
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
