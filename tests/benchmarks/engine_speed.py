"""The CPU engine that serves against diffusers' own pipeline: same weights, prompts and seeds, in turns.

    python -m tests.benchmarks.engine_speed

Text to frames, without MP4. Each gets every core and the batch size that suits it best; the engine runs a stream of one
thread per core. The ratios are those of medians over rounds in which all took turns.

Beside them stands a yardstick: the operations that the eager modules do for one video, at the speed of the machine's
own matrix product in single precision, measured in the same rounds. Fewer operations, or faster ones, would beat it.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks.shared import SHIPPED, held_out_requests, shipped, table, write
from videogen.engines.base import Target
from videogen.engines.device import available_cores
from videogen.generate import Clip, Generator
from videogen.quality.psnr import psnr
from videogen.quality.ssim import ssim

BATCHES = (1, 4, 8)
SIDE = 2048
"""Of the square matrices whose product is timed."""


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(version: str, target: Target, clips: int, rounds: int) -> list[object]:
    """One row of the table."""
    from tests.benchmarks.diffusers_pipeline import EagerPipeline

    torch.set_num_threads(available_cores())
    pipeline, engine = EagerPipeline.of(SHIPPED / version), shipped(version, target, available_cores())
    ours = {batch: Generator(engine.model, batch) for batch in BATCHES}
    requests = held_out_requests(engine, clips)
    steps, guidance = requests[0].request.num_inference_steps, requests[0].request.guidance_scale

    def theirs(batch: int) -> np.ndarray:
        parts = [requests[first : first + batch] for first in range(0, clips, batch)]
        return np.concatenate(
            [
                pipeline([r.request.prompt for r in part], [r.request.seed for r in part], steps, guidance)
                for part in parts
            ]
        )

    def made_by(generator: Generator) -> dict[str, np.ndarray]:
        return {found.request.id: found.frames for found in generator.generate(requests) if isinstance(found, Clip)}

    with FlopCounterMode(display=False) as counter:
        theirs(clips)
    operations = counter.get_total_flops() / clips
    left, right = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    reference, made = theirs(8), made_by(ours[8])
    nearness = [
        (psnr(made[r.id], frame), ssim(made[r.id], frame)) for r, frame in zip(requests, reference, strict=True)
    ]
    taken: dict[tuple[str, int], list[float]] = {(who, b): [] for who in ("diffusers", "engine") for b in BATCHES}
    products: list[float] = []
    for _ in range(rounds):
        for batch in BATCHES:
            taken["diffusers", batch].append(seconds(lambda batch=batch: theirs(batch)) / clips)
            taken["engine", batch].append(seconds(lambda batch=batch: made_by(ours[batch])) / clips)
        products.append(seconds(lambda: left @ right))
    median = {name: statistics.median(values) for name, values in taken.items()}
    best = {who: min(median[who, batch] for batch in BATCHES) for who in ("diffusers", "engine")}
    bound = operations * statistics.median(products) / (2 * SIDE**3)
    return [
        version, target, f"{steps}, {guidance:g}",
        *(f"{1000 * median['diffusers', batch]:.0f}" for batch in BATCHES),
        *(f"{1000 * median['engine', batch]:.0f}" for batch in BATCHES),
        f"**{median['diffusers', 1] / median['engine', 1]:.2f}**", f"**{best['diffusers'] / best['engine']:.2f}**",
        f"{operations / 1e9:.1f}", f"{1000 * bound:.0f}", f"{best['diffusers'] / bound:.2f}",
        f"{np.mean([p for p, _ in nearness]):.1f}", f"{np.mean([s for _, s in nearness]):.4f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    targets: tuple[Target, ...] = ("openvino", "onnxruntime")
    rows = [measure(version, target, options.clips, options.rounds) for version in ("1", "2") for target in targets]
    head = ["version", "engine", "steps, guidance", *(f"diffusers, batch {batch}" for batch in BATCHES),
            *(f"engine, batch {batch}" for batch in BATCHES), "ratio at batch 1", "ratio, best to best",
            "GFLOP per video", "yardstick ms", "diffusers' best over it", "PSNR dB", "SSIM"]  # fmt: skip
    lines = [
        "Milliseconds per video. PSNR and SSIM compare the two's frames at the same prompts and seeds. The yardstick",
        "is eager's operations for a video at the speed of this machine's single-precision matrix product.",
    ]
    write("engine_speed", "The engine against diffusers' pipeline", __spec__.name, [*lines, *table(head, rows)])


if __name__ == "__main__":
    main()
