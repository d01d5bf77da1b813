"""What a pair of stores costs: its calls against the same calls to its primary alone.

    python -m tests.benchmarks.dual_write

Both take turns in one process, call by call. Aerospike is measured where AEROSPIKE_HOSTS names a server; the Redis is
started here.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.shared import table, write
from tests.benchmarks.store import Work
from tests.fixtures.servers import redis_server
from tests.store.builders import accepted
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Add, Is, MapPut, RecordStore, Set, SetPayload, Write
from videogen.store.store import Store
from videogen.store.videos import Videos

VIDEO = os.urandom(1_000_000)


def cases(records: RecordStore) -> dict[str, Work]:
    """Name -> one call."""
    records.write(Write("bench", "r", (Set("state", "free"), Set("n", 1)), "only"))
    videos, store = Videos(records, 3600.0), Store(records)
    digest = videos.put("g", VIDEO, {})

    def write_one(*operations: Set | Add | MapPut, key: str = "p", **options: object) -> object:
        return records.write(Write("bench", key, operations, **options))  # ty: ignore[invalid-argument-type]

    return {
        "read a record": lambda: records.read("bench", "r"),
        "read what is not there": lambda: records.read("bench", "none"),
        "write a record": lambda: write_one(Set("state", "free"), Set("n", 1)),
        "make a record, only if it is new": lambda: write_one(Set("n", 1), key=uuid.uuid4().hex, create="only"),
        "make a record": lambda: write_one(Set("n", 1), key=uuid.uuid4().hex),
        "count": lambda: write_one(Add("n", 1), key="c"),
        "write on a condition": lambda: write_one(Set("n", 2), key="r", create="never", when=Is("state", "free")),
        "write on a condition that does not hold": lambda: write_one(
            Set("n", 2), key="r", create="never", when=Is("state", "held")
        ),
        "put into a map of 100": lambda: write_one(MapPut(f"{uuid.uuid4().int % 100:03d}"), key="m"),
        "a new chunk of 200 KB": lambda: records.write(
            Write("chunk", uuid.uuid4().hex, (SetPayload(VIDEO[:200_000]),), ttl=20.0)
        ),
        "video of 1,000 KB, get": lambda: videos.read(digest),
        "video of 1,000 KB, put": lambda: videos.put("g", uuid.uuid4().bytes + VIDEO[16:], {}),
        "submit one request": lambda: store.submit(accepted(uuid.uuid4().int % 2**31)),
    }


def by_turns(single: Work, both: Work, seconds: float) -> tuple[float, float]:
    """Median seconds of a call of each, call by call: what else the machine does falls on both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 20:
        for work, taken in zip((single, both), times, strict=True):
            start = time.perf_counter()
            work()
            taken.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


@contextlib.contextmanager
def pairs(folder: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """Name -> the URL of a primary alone, and of a pair with a primary like it."""
    alone, one, other = (uuid.uuid4().hex[:8] for _ in range(3))
    with redis_server(folder) as (redis, _):
        embedded = f"embedded:{folder / 'pair'}"
        found = {"embedded, redis": (f"embedded:{folder / 'alone'}", f"dual:{embedded}|{redis}?namespace={other}")}
        if hosts := os.environ.get("AEROSPIKE_HOSTS"):
            there = f"aerospike://{hosts}/{os.environ.get('AEROSPIKE_NAMESPACE', 'videogen')}?prefix="
            second = f"{redis}?namespace={one}"
            found["redis, aerospike"] = (f"{redis}?namespace={alone}", f"dual:{second}|{there}{one}")
            found["aerospike, redis"] = (there + alone, f"dual:{there}{other}|{redis}?namespace={alone}x")
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="per case and pair")
    options = parser.parse_args()
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, pairs(Path(folder)) as there:
        for urls in there.values():
            alone, pair = (open_records(url) for url in urls)
            ours = cases(pair)
            for name, single in cases(alone).items():
                one, both = by_turns(single, ours[name], options.seconds)
                rows.setdefault(name, []).append(f"{1000 * both:.3f} ({both / one:.1f})")
            alone.close()
            pair.close()
    lines = [
        "Milliseconds, the median call of a pair (primary, the other); in brackets, times that of the primary alone.",
        "Servers on loopback, on a machine that did other work as well: the ratios hold better than the times.",
    ]
    body = [[name, *cells] for name, cells in rows.items()]
    write("dual_write", "What a pair of stores costs", __spec__.name, [*lines, *table(["what", *there], body)])


if __name__ == "__main__":
    main()
