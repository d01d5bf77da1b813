"""How often the pixel oracle is right, clip by clip, and how fast.

    python -m tests.benchmarks.oracle_accuracy

True clips of random combinations, each with a seed of its own; the same after H.264 and after blur and noise. A clip
with one attribute changed counts as refused unless the oracle names all five attributes of the unchanged caption.
Writes a Markdown table.
"""

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from tests.benchmarks.gates_power import true_clip
from tests.benchmarks.shared import machine
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.quality.agreement import Agreement, Proportion, agreement
from videogen.quality.oracle import Verdict, judge
from videogen.world.grammar import FIELDS, WORDS, Attributes, combinations

RESULTS = Path(__file__).parent / "results" / "oracle.md"
FPS = 8


def softened(clip: np.ndarray, seed: int) -> np.ndarray:
    """Blurred by one pixel, with noise of 6 of 255 levels."""
    soft = ndimage.gaussian_filter(clip.astype(np.float32), (0, 1, 1, 0))
    noisy = soft + np.random.default_rng(seed).normal(0, 6, soft.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


TREATMENTS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "as rendered": lambda clip, _: clip,
    "H.264, crf 16": lambda clip, _: decode_mp4(encode_mp4(clip, FPS)),
    "H.264, crf 26": lambda clip, _: decode_mp4(encode_mp4(clip, FPS, crf=26)),
    "blur and noise": softened,
}


def sampled(count: int) -> list[Attributes]:
    """Every combination as often as the next, to within one."""
    rng, pool, found = random.Random(0), list(combinations()), []
    while len(found) < count:
        found += rng.sample(pool, len(pool))
    return found[:count]


def other(attributes: Attributes, field: str, rng: random.Random) -> Attributes:
    """The same caption with another value of one attribute."""
    values = [value for value in WORDS[field] if value != getattr(attributes, field)]
    return replace(attributes, **{field: rng.choice(values)})


def refused(shown: Sequence[Attributes], verdicts: Sequence[Verdict], field: str) -> float:
    """The share of clips that don't pass for a caption which differs in `field` from what they show."""
    rng = random.Random(field)
    against = agreement((other(a, field, rng), verdict) for a, verdict in zip(shown, verdicts, strict=True))
    return 1 - against.joint.value


def _cell(share: Proportion) -> str:
    return f"{share.value:.2%}"


def markdown(found: dict[str, tuple[Agreement, dict[str, float]]], rate: float) -> str:
    """The tables."""
    lines = [
        "# How often the oracle is right",
        "",
        "`python -m tests.benchmarks.oracle_accuracy`",
        "",
        f"{machine()}.",
        "",
    ]
    lines += [f"{rate:.0f} clips of 16 frames, 64×64, per CPU second of one core."]
    for title, cells in (
        ("right", lambda agreed, _: [*map(_cell, agreed.shares().values())]),
        ("one attribute changed: refused", lambda _, changed: [*(f"{changed[field]:.2%}" for field in FIELDS), ""]),
    ):
        lines += ["", f"| {title} | n | {' | '.join((*FIELDS, 'joint'))} |", "|" + "---|" * 8]
        for name, (agreed, changed) in found.items():
            lines.append(f"| {name} | {agreed.n} | {' | '.join(cells(agreed, changed))} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000, help="as rendered; a quarter of them treated")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    attributes = sampled(options.clips)
    clips = [true_clip(a, 3_000_000 + index) for index, a in enumerate(attributes)]
    found, rate = {}, 0.0
    for name, treat in TREATMENTS.items():
        count = len(clips) if not found else len(clips) // 4
        treated = [treat(clip, index) for index, clip in enumerate(clips[:count])]
        started = time.process_time()
        verdicts = [judge(clip) for clip in treated]
        rate = max(rate, count / (time.process_time() - started))
        agreed = agreement(zip(attributes, verdicts, strict=False))
        found[name] = agreed, {field: refused(attributes[:count], verdicts, field) for field in FIELDS}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(markdown(found, rate))


if __name__ == "__main__":
    main()
