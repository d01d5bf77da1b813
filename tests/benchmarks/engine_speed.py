"""The CPU engine that serves against diffusers' own pipeline: same weights, prompts and seeds, in turns.

    python -m tests.benchmarks.engine_speed

Text to frames, without MP4. The pipeline gets the batch size that suits it best, and both cores; the engine runs a
stream of one thread per core. The ratio is that of medians over rounds in which the two took turns.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from tests.benchmarks.shared import SHIPPED, held_out_requests, shipped, table, write
from videogen.engines.device import available_cores
from videogen.generate import Clip
from videogen.quality.psnr import psnr
from videogen.quality.ssim import ssim

BATCHES = (1, 4, 8)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(version: str, clips: int, rounds: int) -> list[object]:
    """One row of the table."""
    from tests.benchmarks.diffusers_pipeline import EagerPipeline

    torch.set_num_threads(available_cores())
    pipeline, ours = EagerPipeline.of(SHIPPED / version), shipped(version, streams=available_cores())
    requests = held_out_requests(ours, clips)
    steps, guidance = requests[0].request.num_inference_steps, requests[0].request.guidance_scale

    def theirs(batch: int) -> np.ndarray:
        parts = [requests[first : first + batch] for first in range(0, clips, batch)]
        return np.concatenate(
            [
                pipeline([r.request.prompt for r in part], [r.request.seed for r in part], steps, guidance)
                for part in parts
            ]
        )

    def engine() -> dict[str, np.ndarray]:
        return {found.request.id: found.frames for found in ours.generate(requests) if isinstance(found, Clip)}

    reference, made = theirs(8), engine()
    nearness = [
        (psnr(made[r.id], frame), ssim(made[r.id], frame)) for r, frame in zip(requests, reference, strict=True)
    ]
    taken: dict[object, list[float]] = {batch: [] for batch in BATCHES} | {"engine": []}
    for _ in range(rounds):
        for batch in BATCHES:
            taken[batch].append(seconds(lambda batch=batch: theirs(batch)) / clips)
        taken["engine"].append(seconds(engine) / clips)
    median = {name: statistics.median(values) for name, values in taken.items()}
    best = min(BATCHES, key=lambda batch: median[batch])
    ratios = sorted(a / b for a, b in zip(taken[best], taken["engine"], strict=True))
    return [
        version, f"{steps}, {guidance:g}", *(f"{1000 * median[batch]:.0f}" for batch in BATCHES),
        f"{1000 * median['engine']:.0f}", f"**{median[best] / median['engine']:.2f}**",
        f"{ratios[0]:.2f} to {ratios[-1]:.2f}", f"{np.mean([p for p, _ in nearness]):.1f}",
        f"{np.mean([s for _, s in nearness]):.4f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rows = [measure(version, options.clips, options.rounds) for version in ("1", "2")]
    head = ["version", "steps, guidance", *(f"diffusers, batch {batch}" for batch in BATCHES), "engine",
            "ratio to the best batch", "over rounds", "PSNR dB", "SSIM"]  # fmt: skip
    lines = ["Milliseconds per video. PSNR and SSIM compare the two's frames at the same prompts and seeds."]
    write("engine_speed", "The engine against diffusers' pipeline", __spec__.name, [*lines, *table(head, rows)])


if __name__ == "__main__":
    main()
