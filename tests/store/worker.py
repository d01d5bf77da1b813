"""A process of its own on one store: submits, or drains until nothing is live. Says on stdout what it did."""

import contextlib
import sys
import time
from pathlib import Path

from tests.store.builders import accepted, open_embedded
from videogen.errors import LeaseLost, StoreConflict
from videogen.store.store import Store

LEASE_S = 1.5


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def submit(store: Store, first: int, count: int) -> None:
    for seed in range(first, first + count):
        say("accepted", store.submit(accepted(seed)).id)
        time.sleep(0.1)


def drain(store: Store, holder: str) -> None:
    """What the sensor and its runs do, on and on; ends when its input does and nothing is left."""
    idle_since = time.monotonic()
    while time.monotonic() - idle_since < 3 * LEASE_S:
        store.recover()
        ids = [record.id for record in store.waiting(limit=7)]
        batches = [batch.id for batch in store.batches("sealed")]
        if ids:
            with contextlib.suppress(StoreConflict):
                batches.append(store.seal_batch(ids, LEASE_S).id)
        for batch in batches:
            drain_batch(store, batch, holder)
        if store.requests(["queued", "assigned", "running"], limit=1):
            idle_since = time.monotonic()
        time.sleep(0.02)


def drain_batch(store: Store, batch: str, holder: str) -> None:
    try:
        while claims := store.claim(batch, holder, LEASE_S, limit=3):
            for claim in claims:
                time.sleep(0.1)  # the video is being made
                store.publish(claim, claim.generation.encode() * 100, {"holder": holder})
                say("published", claim.generation)
        if store.batch(batch).state == "running":
            store.finish_batch(batch, holder)
    except (StoreConflict, LeaseLost) as error:
        say("lost", error)


if __name__ == "__main__":
    mode, folder, *arguments = sys.argv[1:]
    with open_embedded(Path(folder)) as opened:
        if mode == "submit":
            submit(opened, *map(int, arguments))
        else:
            drain(opened, arguments[0])
