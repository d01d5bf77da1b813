"""What the tier in a process's memory keeps, against the least recently used: GPU-seconds saved on a Zipf trace.

    python -m tests.benchmarks.cache_policy
    python -m tests.benchmarks.cache_policy --libraries     (pip install cachetools theine)

Every policy replays the same seeded requests. Videos are of 50 KB to 20 MB and took 0.5 to 120 GPU-seconds, both spread
evenly over their logarithms; popularity falls with the rank by Zipf's law, and some ranks change hands all the time.
The cache is the real one; its bytes stand for kilobytes, so that a cache of gigabytes can be replayed in megabytes.
"""

import argparse
import heapq
import math
import statistics
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata

import numpy as np

from tests.benchmarks.shared import table, write
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.local_cache import CarriedClock, LoadedVideo, LocalVideoCache

Policy = Callable[[str, LoadedVideo], bool]
"""Was the video there?"""
SMALLEST, LARGEST = 50, 20_000
"""KB of a video."""
DRIFT_EVERY, DRIFTING = 2000, 0.02
"""Requests until some ranks change hands again, and the share of them that do."""
SHARES = (0.01, 0.03, 0.1, 0.3)
GOAL_US = 20.0


@dataclass(frozen=True)
class Trace:
    """Requests in their order. `catalogue`: KB of all videos that can be asked for again."""

    name: str
    requests: list[tuple[str, LoadedVideo]]
    catalogue: int

    @property
    def gpu_seconds(self) -> float:
        return sum(video.gpu_seconds for _, video in self.requests)


def spread(rng: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    return np.exp(rng.uniform(np.log(low), np.log(high), count))


def trace(name: str, options: argparse.Namespace, exponent: float, once: float = 0.0, alike: bool = False) -> Trace:
    """`once`: the share of requests for videos that nobody asks for again. `alike`: costs follow sizes, within 2x."""
    rng, known, length = np.random.default_rng(options.seed), options.videos, options.requests
    sizes = spread(rng, SMALLEST, LARGEST, known + length)
    costs = spread(rng, 0.5, 120, known + length)
    if alike:
        costs = 120 * sizes / LARGEST * spread(rng, 0.5, 2, known + length)
    popularity = np.arange(1, known + 1) ** -exponent
    ranks = rng.choice(known, length, p=popularity / popularity.sum())
    single, order = rng.random(length) < once, rng.permutation(known)
    videos: dict[int, LoadedVideo] = {}
    requests = []
    for at in range(length):
        if at % DRIFT_EVERY == 0:
            some = rng.choice(known, int(DRIFTING * known), replace=False)
            order[some] = order[rng.permutation(some)]
        number = known + at if single[at] else int(order[ranks[at]])
        if number not in videos:
            videos[number] = LoadedVideo(bytes(int(sizes[number])), 1e12, float(costs[number]))
        requests.append((f"{number:064x}", videos[number]))
    return Trace(name, requests, int(sizes[:known].sum()))


def least_recently_used(max_bytes: int) -> Policy:
    kept: OrderedDict[str, int] = OrderedDict()
    held = 0

    def ask(key: str, video: LoadedVideo) -> bool:
        nonlocal held
        if key in kept:
            kept.move_to_end(key)
            return True
        kept[key] = len(video.mp4)
        held += len(video.mp4)
        while held > max_bytes:
            held -= kept.popitem(last=False)[1]
        return False

    return ask


def as_published(max_bytes: int) -> Policy:
    """GreedyDual-Size-Frequency: who is not kept is not counted, and everyone is let in."""
    kept: dict[str, tuple[float, int, int]] = {}
    order: list[tuple[float, str]] = []
    clock, held = 0.0, 0

    def ask(key: str, video: LoadedVideo) -> bool:
        nonlocal clock, held
        size, was_there = len(video.mp4), key in kept
        if size > max_bytes:
            return False
        count = kept[key][1] + 1 if was_there else 1
        while not was_there and held + size > max_bytes:
            priority, lowest = heapq.heappop(order)
            if lowest in kept and kept[lowest][0] == priority:
                clock = priority
                held -= kept.pop(lowest)[2]
        kept[key] = clock + count * video.gpu_seconds / size, count, size
        heapq.heappush(order, (kept[key][0], key))
        held += 0 if was_there else size
        return was_there

    return ask


def ours(max_bytes: int) -> Policy:
    cache = LocalVideoCache(max_bytes, lambda: 0.0)

    def ask(key: str, video: LoadedVideo) -> bool:
        loads: list[None] = []

        def load() -> LoadedVideo:
            loads.append(None)
            return video

        cache.get(key, load)
        return not loads

    return ask


def lfu_of_cachetools(max_bytes: int) -> Policy:
    """Bounded in bytes; who is not kept is not counted, and everyone is let in."""
    import cachetools

    cache = cachetools.LFUCache(max_bytes, getsizeof=lambda video: len(video.mp4))

    def ask(key: str, video: LoadedVideo) -> bool:
        if cache.get(key) is not None:
            return True
        if len(video.mp4) <= max_bytes:
            cache[key] = video
        return False

    return ask


def tiny_lfu_of_theine(max_bytes: int) -> Policy:
    """W-TinyLFU: admission by frequency. It is bounded in entries: as many as would fill the bytes on average."""
    import theine

    average = (LARGEST - SMALLEST) / math.log(LARGEST / SMALLEST)
    cache = theine.Cache[str, LoadedVideo](max(1, int(max_bytes / average)), nolock=True)

    def ask(key: str, video: LoadedVideo) -> bool:
        if cache.get(key)[1]:
            return True
        cache.set(key, video)
        return False

    return ask


POLICIES: dict[str, Callable[[int], Policy]] = {
    "LRU": least_recently_used, "GDSF as published": as_published, "ours": ours,
}  # fmt: skip
LIBRARIES: dict[str, Callable[[int], Policy]] = {
    "LRU": least_recently_used, "LFU of cachetools": lfu_of_cachetools, "W-TinyLFU of theine": tiny_lfu_of_theine,
    "ours": ours,
}  # fmt: skip


def replay(policy: Policy, requests: list[tuple[str, LoadedVideo]]) -> tuple[float, float]:
    """Hits, and the GPU-seconds that they saved."""
    hits = [video.gpu_seconds for key, video in requests if policy(key, video)]
    return len(hits), sum(hits)


def rows(traces: Iterator[Trace], policies: Mapping[str, Callable[[int], Policy]]) -> Iterator[list[str]]:
    for one in traces:
        for share in SHARES:
            size = int(one.catalogue * share)
            found = {name: replay(make(size), one.requests) for name, make in policies.items()}
            rates = [f"{hits / len(one.requests):.1%}" for hits, _ in found.values()]
            saved = [f"{seconds / one.gpu_seconds:.1%}" for _, seconds in found.values()]
            ratio = f"**{found['ours'][1] / found['LRU'][1]:.2f}**"
            yield [one.name, f"{size / 1e6:.2f} GB ({share:.0%})", *saved, ratio, *rates]


def traces(options: argparse.Namespace) -> Iterator[Trace]:
    for exponent in (1.0, 1.1, 1.2):
        yield trace(f"Zipf {exponent}", options, exponent)
    yield trace("Zipf 1.1, half are asked for once", options, 1.1, once=0.5)
    yield trace("Zipf 1.1, costs follow sizes", options, 1.1, alike=True)


def hit_times(calls: int, threads: int) -> list[float]:
    """Microseconds of each hit, sorted, in a full cache of 1,000 videos."""
    cache = LocalVideoCache(1000 * 10_000, CarriedClock(MemoryRecordStore().now))
    keys = [f"{number:064x}" for number in range(1000)]
    video = LoadedVideo(bytes(10_000), 1e12, 1.0)
    for key in keys:
        cache.get(key, lambda: video)
    taken: list[float] = []

    def work() -> None:
        mine = []
        for at in range(calls):
            key, start = keys[at * 7919 % 1000], time.perf_counter_ns()
            cache.get(key, lambda: video)
            mine.append((time.perf_counter_ns() - start) / 1000)
        taken.extend(mine)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert cache.stats().misses == 1000
    return sorted(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="in a trace")
    parser.add_argument("--videos", type=int, default=5000, help="that are asked for again and again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hits", type=int, default=100_000, help="that are timed, in each thread")
    parser.add_argument("--libraries", action="store_true", help="compare with caches of libraries instead")
    options = parser.parse_args()
    policies = LIBRARIES if options.libraries else POLICIES
    head = ["requests", "cache (of all videos)"]
    head += [f"saved, {name}" for name in policies] + ["saved, ours / LRU"] + [f"hits, {name}" for name in policies]
    body = list(rows(traces(options), policies))
    about = [
        f"{options.requests:,} requests for {options.videos:,} videos of 50 KB to 20 MB and 0.5 to 120 GPU-seconds.",
        f"Every {DRIFT_EVERY:,} requests, {DRIFTING:.0%} of the videos swap their popularity. Saved: the GPU-seconds",
        "of the hits, of those that all requests would take without a cache.",
    ]
    if options.libraries:
        versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("cachetools", "theine"))
        bounded = "theine's is bounded in entries, as many as would fill the bytes on average; the others are in bytes."
        lines = [*about, f"{versions}; {bounded}", *table(head, body)]
        write("cache_libraries", "What caches of libraries keep of the same", __spec__.name, lines)
        return
    times = []
    for threads in (1, 4):
        taken = hit_times(options.hits, threads)
        times.append([threads, f"{statistics.median(taken):.2f}", f"{taken[int(0.99 * len(taken))]:.2f}"])
    timed = (
        f"A hit in the process, in microseconds, with a look at the clock and 1,000 videos there (goal: {GOAL_US:.0f})."
    )
    lines = [*about, *table(head, body), "", timed, *table(["threads", "median", "99th percentile"], times)]
    write("cache_policy", "What the local cache keeps", __spec__.name, lines)


if __name__ == "__main__":
    main()
