"""The queue of each backend: what a claim costs however many requests wait, and how many claimers it feeds.

    python -m tests.benchmarks.queue_depth

A claim is of 16 requests that can be made together, released again outside of the clock. Claimers are processes that
claim 8 and publish a video of 20 KB for each, over and over, so a rate is of whole answers. Servers are those of
`tests/benchmarks/store.py`.
"""

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

from tests.benchmarks.shared import table, write
from tests.benchmarks.store import backends
from tests.store.builders import accepted
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Write
from videogen.store.records import StoreLimits
from videogen.store.request_records import as_operations, new_record
from videogen.store.store import Store
from videogen.store.turns import DIGITS

LANE = "interactive"
FILL = 500
CLAIMS = 30
LEASE_S = 600.0
LIMITS = StoreLimits(local_cache_bytes=0)


def fill(store: Store, count: int) -> None:
    """Has `count` more requests wait: what `submit` writes, many at a time."""
    queue = store._queue
    for first in range(0, count, FILL):
        now, places, requests = store.records.now(), [], []
        turn = f"{round(1000 * now):0{DIGITS}d}"
        for request in (accepted(uuid.uuid4().int % 2**31, lane=LANE) for _ in range(min(FILL, count - first))):
            record = replace(new_record(request, queue.generations.key(request), "benchmark", now), turn=turn)
            places.append(queue.generations.wait(record.generation, record.id))
            places.append(queue.live.put(LANE, record.turn, record.id, now))
            requests.append(Write("request", record.id, as_operations(record), create="only"))
        store.records.write_many(places)
        store.records.write_many(requests)


def seconds_of_a_claim(store: Store) -> float:
    """The median over claims of 16."""
    taken = []
    for _ in range(CLAIMS):
        start = time.perf_counter()
        claims = store.claim_lane(LANE, "benchmark", LEASE_S, limit=16)
        taken.append(time.perf_counter() - start)
        assert len(claims) == 16
        store.release(claims)
    return statistics.median(taken)


def seconds_of_a_submit(store: Store, count: int = 100) -> float:
    start = time.perf_counter()
    for _ in range(count):
        store.submit(accepted(uuid.uuid4().int % 2**31, lane=LANE))
    return (time.perf_counter() - start) / count


def work(url: str, seconds: float, start: object, answered: object) -> None:
    """One claimer: it waits for the others, then claims and publishes until its time is up."""
    with Store.open(url, LIMITS) as store:
        holder, mp4, count = f"claimer {os.getpid()}", os.urandom(20_000), 0
        start.wait()  # ty: ignore[unresolved-attribute]
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for claim in store.claim_lane(LANE, holder, LEASE_S, limit=8):
                store.publish(claim, mp4 + claim.generation.encode(), {})
                count += 1
        answered.put(count)  # ty: ignore[unresolved-attribute]


def answers_per_second(url: str, claimers: int, seconds: float) -> float:
    context = multiprocessing.get_context("spawn")
    start, answered = context.Barrier(claimers), context.Queue()
    workers = [context.Process(target=work, args=(url, seconds, start, answered)) for _ in range(claimers)]
    for worker in workers:
        worker.start()
    total = sum(answered.get(timeout=120 + seconds) for _ in workers)
    for worker in workers:
        worker.join()
    return total / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depths", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--claimers", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=5.0, help="that claimers work")
    options = parser.parse_args()
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, backends(Path(folder)) as there:
        for url, _ in there.values():
            store, waiting, shallow = Store(open_records(url), LIMITS), 0, 0.0
            for depth in options.depths:
                fill(store, depth - waiting)
                waiting, seconds = depth, seconds_of_a_claim(store)
                shallow = shallow or seconds
                cell = f"{1000 * seconds:.2f} ({seconds / shallow:.2f})"
                rows.setdefault(f"claim 16, {depth:,} waiting, ms", []).append(cell)
            rows.setdefault(f"submit one, {waiting:,} waiting, ms", []).append(
                f"{1000 * seconds_of_a_submit(store):.2f}"
            )
            for claimers in options.claimers:
                rate = answers_per_second(url, claimers, options.seconds)
                rows.setdefault(f"claimed and published per second, {claimers} claimers", []).append(f"{rate:.0f}")
            store.close()
    lines = ["In brackets: over the same with the fewest waiting. Servers on loopback, beside the claimers."]
    body = [[name, *cells] for name, cells in rows.items()]
    write("queue_depth", "The queue when it is long", __spec__.name, [*lines, *table(["what", *there], body)])


if __name__ == "__main__":
    main()
