"""The store's primitives and videos on each backend, against that backend's own client doing the same.

    python -m tests.benchmarks.store

Raw and ours take turns in one process; a ratio is raw time over ours, so 1.00 is as fast as the client alone. What is
put is new each time: a backend may see that it holds the same already. Aerospike is measured where AEROSPIKE_HOSTS
names a server; Redis is started here if redis-server is installed.
"""

import argparse
import contextlib
import hashlib
import itertools
import os
import shutil
import sqlite3
import statistics
import tempfile
import time
import timeit
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.shared import table, write
from tests.fixtures.servers import redis_server
from tests.store.builders import accepted
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import Add, Is, MapPut, RecordStore, Set, SetPayload, Write
from videogen.store.records import StoreLimits
from videogen.store.store import Store
from videogen.store.videos import Videos, chunk_keys

Work = Callable[[], object]
Put = Callable[[bytes], object]
MEDIUM, LARGE = 200_000, 1_000_000
PUTS = 10
"""Contents that are put in one turn, made before it."""
RAW_KEYS = 100
"""Under which the client puts contents, in turns."""


@dataclass
class Raw:
    """The client alone, doing what the primitive does."""

    get: Work
    put: Work
    count: Work
    compare: Work
    map_put: Work
    get_blob: Callable[[str], bytes]
    put_blob: Callable[[str, bytes], object]


def raw_redis(url: str) -> Raw:
    import redis

    client: Any = redis.Redis.from_url(url.partition("?")[0])
    client.hset("raw:r", mapping={"state": '"free"', "n": "1"})
    swap = client.register_script(
        "if redis.call('HGET', KEYS[1], 'state') == ARGV[1] then redis.call('HSET', KEYS[1], 'n', '2') return 1 end"
    )
    return Raw(
        get=lambda: client.hgetall("raw:r"),
        put=lambda: client.hset("raw:p", mapping={"state": '"free"', "n": "1"}),
        count=lambda: client.hincrby("raw:c", "n", 1),
        compare=lambda: swap(["raw:r"], ['"free"']),
        map_put=lambda: client.zadd("raw:m", {f"{time.monotonic_ns() % 100:03d}": 0}),
        get_blob=lambda name: client.get(f"raw:{name}"),
        put_blob=lambda name, blob: client.set(f"raw:{name}", blob),
    )


def raw_aerospike(url: str) -> Raw:
    import aerospike
    from aerospike_helpers import expressions as exp
    from aerospike_helpers.operations import map_operations, operations

    client = open_records(url).client  # ty: ignore[unresolved-attribute]
    namespace = url.partition("?")[0].rpartition("/")[2]

    def key(name: str) -> tuple[str, str, str]:
        return namespace, "raw", name

    client.put(key("r"), {"state": "free", "n": 1})
    when = exp.Eq(exp.StrBin("state"), "free").compile()
    ordered = {"map_order": aerospike.MAP_KEY_ORDERED}
    return Raw(
        get=lambda: client.get(key("r")),
        put=lambda: client.put(key("p"), {"state": "free", "n": 1}),
        count=lambda: client.operate(key("c"), [operations.increment("n", 1), operations.read("n")]),
        compare=lambda: client.put(key("r"), {"n": 2}, policy={"expressions": when}),
        map_put=lambda: client.operate(
            key("m"), [map_operations.map_put("m", f"{time.monotonic_ns() % 100:03d}", "", ordered)]
        ),
        get_blob=lambda name: client.get(key(name))[2]["p"],
        put_blob=lambda name, blob: client.put(key(name), {"p": blob}),
    )


def raw_sqlite(folder: Path) -> Raw:
    db = sqlite3.connect(folder / "raw.db", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute("CREATE TABLE t (k TEXT PRIMARY KEY, v TEXT, n INTEGER, b BLOB)")
    db.execute("CREATE TABLE m (k TEXT, e TEXT, PRIMARY KEY (k, e)) WITHOUT ROWID")
    db.execute("INSERT INTO t VALUES ('r', 'free', 1, NULL)")
    db.execute("INSERT INTO t VALUES ('c', 'free', 1, NULL)")
    insert = "INSERT INTO t VALUES (?1, 'free', 1, ?2) ON CONFLICT (k) DO UPDATE SET n = n + 1, b = ?2"
    return Raw(
        get=lambda: db.execute("SELECT v, n FROM t WHERE k = 'r'").fetchone(),
        put=lambda: db.execute(insert, ("p", None)),
        count=lambda: db.execute("UPDATE t SET n = n + 1 WHERE k = 'c' RETURNING n").fetchone(),
        compare=lambda: db.execute("UPDATE t SET n = n + 1 WHERE k = 'r' AND v = 'free'"),
        map_put=lambda: db.execute("INSERT OR REPLACE INTO m VALUES ('m', ?)", (f"{time.monotonic_ns() % 100:03d}",)),
        get_blob=lambda name: db.execute("SELECT b FROM t WHERE k = ?", (name,)).fetchone()[0],
        put_blob=lambda name, blob: db.execute(insert, (name, blob)),
    )


def in_turns(raw: Work, ours: Work, seconds: float, rounds: int) -> tuple[float, float]:
    """Median seconds of one call of each, in turns of a fraction of `seconds`."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, times in zip((raw, ours), taken, strict=True):
            work()
            end, count = time.perf_counter() + seconds / rounds / 2, 0
            start = time.perf_counter()
            while time.perf_counter() < end:
                work()
                count += 1
            times.append((time.perf_counter() - start) / count)
    return statistics.median(taken[0]), statistics.median(taken[1])


def in_turns_put(raw: Put, ours: Put, size: int, rounds: int) -> tuple[float, float]:
    """As `in_turns`, of calls that are given new content each time."""
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for work, times in zip((raw, ours), taken, strict=True):
            for blob in [os.urandom(size) for _ in range(PUTS)]:
                start = time.perf_counter()
                work(blob)
                times.append(time.perf_counter() - start)
    return statistics.median(taken[0]), statistics.median(taken[1])


def single_records(records: RecordStore, raw: Raw) -> Iterator[tuple[str, Work, Work]]:
    """Name, what the client does, what we do."""
    records.write(Write("bench", "r", (Set("state", "free"), Set("n", 1))))
    fields = (Set("state", "free"), Set("n", 1))
    yield "read a record", raw.get, lambda: records.read("bench", "r")
    yield "write a record", raw.put, lambda: records.write(Write("bench", "p", fields))
    yield "count", raw.count, lambda: records.write(Write("bench", "c", (Add("n", 1),)))
    swap = Write("bench", "r", (Set("n", 2),), "never", Is("state", "free"))
    yield "write on a condition", raw.compare, lambda: records.write(swap)
    yield (
        "put into a map of 100", raw.map_put,
        lambda: records.write(Write("bench", "m", (MapPut(f"{time.monotonic_ns() % 100:03d}"),))),
    )  # fmt: skip


def gets(videos: Videos, raw: Raw) -> Iterator[tuple[str, Work, Work]]:
    """As `single_records`, the client without and with a check of what it got."""
    for size in (MEDIUM, LARGE):
        blob, name = os.urandom(size), f"b{size}"
        digest, what = videos.put("g", blob, {}), f"video of {size // 1000} KB, get"
        raw.put_blob(name, blob)
        yield what, lambda name=name: raw.get_blob(name), lambda d=digest: videos.read(d)
        yield (
            f"{what}; the client, and sha256", lambda name=name: hashlib.sha256(raw.get_blob(name)).hexdigest(),
            lambda d=digest: videos.read(d),
        )  # fmt: skip
    chunk = next(chunk_keys(videos.put("g", os.urandom(MEDIUM), {}), 1))
    yield "one chunk of 200 KB, get", lambda: raw.get_blob(f"b{MEDIUM}"), lambda: videos.records.read("chunk", chunk)


def puts(videos: Videos, raw: Raw) -> Iterator[tuple[str, int, Put, Put]]:
    """As `gets`, with the size of what is put."""
    numbers = itertools.count()

    def put(blob: bytes) -> object:
        return raw.put_blob(f"p{len(blob)}/{next(numbers) % RAW_KEYS}", blob)

    def put_with_digest(blob: bytes) -> object:
        return hashlib.sha256(blob).hexdigest(), put(blob)

    for size in (MEDIUM, LARGE):
        what = f"video of {size // 1000} KB, put"
        yield what, size, put, lambda blob: videos.put("g", blob, {})
        yield f"{what}; the client, and sha256", size, put_with_digest, lambda blob: videos.put("g", blob, {})
    yield (
        "one chunk of 200 KB, put", MEDIUM, put,
        lambda blob: videos.records.write(Write("chunk", f"p{next(numbers) % RAW_KEYS}", (SetPayload(blob),))),
    )  # fmt: skip


def measured(records: RecordStore, raw: Raw, seconds: float, rounds: int) -> Iterator[tuple[str, float, float]]:
    """Name, seconds of a call of the client, of ours."""
    videos = Videos(records, 3600.0)
    for name, theirs, ours in itertools.chain(single_records(records, raw), gets(videos, raw)):
        yield name, *in_turns(theirs, ours, seconds, rounds)
    for name, size, theirs, ours in puts(videos, raw):
        yield name, *in_turns_put(theirs, ours, size, rounds)


@contextlib.contextmanager
def backends(folder: Path) -> Iterator[dict[str, tuple[str, Callable[[], Raw]]]]:
    """Name -> URL, and the client alone."""
    fresh = uuid.uuid4().hex[:8]
    with contextlib.ExitStack() as stack:
        found: dict[str, tuple[str, Callable[[], Raw]]] = {
            "embedded": (f"embedded:{folder / 'store'}", lambda: raw_sqlite(folder))
        }
        if shutil.which("redis-server"):
            url, _ = stack.enter_context(redis_server(folder))
            found["redis"] = (f"{url}?namespace={fresh}", lambda: raw_redis(url))
        if hosts := os.environ.get("AEROSPIKE_HOSTS"):
            there = f"aerospike://{hosts}/{os.environ.get('AEROSPIKE_NAMESPACE', 'videogen')}?prefix={fresh}"
            found["aerospike"] = (there, lambda: raw_aerospike(there))
        yield found


def microseconds_of_a_hit(url: str, size: int) -> float:
    """The median of rounds of reads of a video that is in the process's own memory."""
    with Store.open(url, StoreLimits()) as store:
        (claim,) = store.claim([store.submit(accepted(size)).id], "benchmark", 60.0)
        digest = store.publish(claim, os.urandom(size), {}).digest
        store.read_video(digest)
        rounds = timeit.repeat(lambda: store.read_video(digest), number=1000, repeat=5)
        hits = store.cache_stats()
        assert hits is not None and hits.hits == 5000
        return 1e6 * statistics.median(rounds) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1.5, help="per case and backend")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, backends(Path(folder)) as there:
        for url, make in there.values():
            records = open_records(url)
            for name, theirs, mine in measured(records, make(), options.seconds, options.rounds):
                rows.setdefault(name, []).append(f"{1000 * mine:.3f} ({theirs / mine:.2f})")
            records.close()
            for size in (MEDIUM, LARGE):
                name = f"video of {size // 1000} KB from the process's own memory, µs"
                rows.setdefault(name, []).append(f"{microseconds_of_a_hit(url, size):.1f}")
    lines = ["Milliseconds a call, but where it says µs; in brackets the time of the backend's own client over ours."]
    lines += ["Servers on loopback."]
    head = ["what", *there]
    body = [[name, *cells] for name, cells in rows.items()]
    write("store", "The store on its backends", __spec__.name, [*lines, *table(head, body)])


if __name__ == "__main__":
    main()
