"""Videos per minute at batch 1, 4, 8 and 16, and where the time goes.

    python -m tests.benchmarks.throughput

From prompt to MP4 on every core: a stream of one thread each, MP4s encoded by the thread that receives the clips, as a
drain does. Shares are of the time summed over threads. With a fused sampler, denoising and decoding are one call; the
table with shares runs them apart, so that they can be told apart.
"""

import argparse
import statistics
import time
from collections import Counter

from tests.benchmarks.shared import held_out_requests, shipped, table, write
from videogen.engines.device import available_cores
from videogen.generate import Clip, Generator
from videogen.media.mp4 import encode_mp4

BATCHES = (1, 4, 8, 16)
STAGES = ("text", "denoise", "decode", "mp4")


def once(generator: Generator, clips: int) -> tuple[float, Counter[str]]:
    """Wall seconds, and seconds by stage."""
    requests, spent = held_out_requests(generator, clips), Counter[str]()
    start = time.perf_counter()
    for found in generator.generate(requests):
        if not isinstance(found, Clip):
            raise found.error
        encoding = time.perf_counter()
        encode_mp4(found.frames, 8)
        spent["mp4"] += time.perf_counter() - encoding
        spent.update({name: getattr(found.timings, name) for name in ("text", "denoise", "decode")})
    return time.perf_counter() - start, spent


def measure(version: str, clips: int, rounds: int) -> list[list[object]]:
    """A row per batch size."""
    rows: list[list[object]] = []
    generator = shipped(version, streams=available_cores())
    generators = {batch: Generator(generator.model, batch) for batch in BATCHES}
    apart = {batch: Generator(generator.model, batch, fused=False) for batch in BATCHES}
    walls: dict[int, list[float]] = {batch: [] for batch in BATCHES}
    spent: dict[int, Counter[str]] = {batch: Counter() for batch in BATCHES}
    once(generators[1], 4)
    for _ in range(rounds):
        for batch in BATCHES:
            walls[batch].append(once(generators[batch], clips)[0])
            spent[batch] += once(apart[batch], clips)[1]
    for batch in BATCHES:
        total = sum(spent[batch].values())
        shares = [f"{spent[batch][stage] / total:.1%}" for stage in STAGES]
        rows.append([version, batch, f"{60 * clips / statistics.median(walls[batch]):.0f}", *shares])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rows = [row for version in ("1", "2") for row in measure(version, options.clips, options.rounds)]
    lines = [f"Medians of {options.rounds} rounds of {options.clips} videos."]
    head = ["version", "batch", "videos per minute", *STAGES]
    write("throughput", "Videos per minute", __spec__.name, [*lines, *table(head, rows)])


if __name__ == "__main__":
    main()
