"""The model card of a version that ships, out of what training and evaluation wrote: no figure is typed by hand."""

import argparse
import csv
import json
from pathlib import Path

from training.autoencoder import LATENT_NOISE
from training.data import held_out_attributes, training_attributes
from training.package import SETTINGS
from videogen.engines.device import available_cores, cpu_name
from videogen.world.grammar import WORDS
from videogen.world.renderer import FPS, FRAMES, SIZE

STAGES = {"1": ("autoencoder", "denoiser"), "2": ("autoencoder", "denoiser", "few-step")}
WHAT = {
    "1": "The base: many steps, with classifier-free guidance.",
    "2": "The few-step version: guidance is folded into the weights, so a video takes 4 calls instead of 32.",
}


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a training log, none if it is not there."""
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def stage_lines(folder: Path, version: str) -> list[str]:
    """What each stage took."""
    lines = ["| stage | steps | samples | minutes | last loss |", "|---|---|---|---|---|"]
    for name in STAGES[version]:
        last = rows(folder / f"{name}.csv")[-1]
        figures = (last["steps"], last["samples"], f"{float(last['minutes']):.0f}", last["loss"])
        lines.append(f"| {name} | {' | '.join(figures)} |")
    return lines


def agreement_lines(target: Path) -> list[str]:
    """How often held-out captions get what they name."""
    shares = json.loads((target / "evaluation.json").read_text())
    lines = ["| attribute | right | 95 % interval | n |", "|---|---|---|---|"]
    for name, share in shares.items():
        shown = "all five at once" if name == "joint" else name
        lines.append(f"| {shown} | {share['value']:.1%} | {share['low']:.1%} to {share['high']:.1%} | {share['n']} |")
    return lines


def curve_lines(folder: Path, version: str) -> list[str]:
    """How agreement grew with training, where it was looked at."""
    seen = rows(folder / f"{STAGES[version][-1]}-samples.csv")
    if not seen:
        return []
    names = list(seen[0])
    lines = ["", "How it grew, on a few held-out captions at a time:", ""]
    lines += [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    return lines + [f"| {' | '.join(row[name] for name in names)} |" for row in seen]


CARD = """\
# videogen-tiny, version {version}

{what} Text to {frames} frames of {size}×{size} RGB at {fps} a second; {steps} steps, guidance {guidance:g}. Apache-2.0,
weights in float16, trained from nothing by this project.

![Held-out captions and what came of them](contact_sheet.png)

## How often it is right
Held-out captions through OpenVINO, one of the two CPU engines that ship, one seed each, judged by a pixel oracle that
shares no code with the renderer (`python -m training.evaluate`).

{agreement}

## What it is
A latent diffusion model of the Wan family: diffusers' `WanTransformer3DModel` (3.9 M parameters, patches of 2×2×2
latents, 32 tokens), a video autoencoder (4 frames × 8×8 pixels to 12 numbers), a text encoder with one slot per
attribute. Rectified flow, Euler steps.

## Data
A synthetic world of moving shapes that the project draws itself (`videogen/world`). {vocabulary}. Captions come in
five wordings with synonyms. Of {combinations} combinations {held_out} are held out whole, in every wording. The seed
moves a shape by a few pixels and shifts the phase of its motion.

## Training
On {cores} cores of a CPU ({cpu}), float32, one seed; `make train-tiny` does it again.

{stages}

The autoencoder is trained with noise of {noise} on its latents. The denoiser's loss is the velocity error plus a small
cross-entropy of a latent classifier, which is not the judge.{few_step}

## Limits
- It knows this one world and this vocabulary; any other word is refused by name.
- Its text encoder is trained with attribute labels, not from captions alone.
- One size, one length, one shape per clip. It shows that the machinery works; it is no model for films.
- Shapes at the small size have few pixels; their corners suffer first.
"""
FEW_STEP = """ The few-step version
starts from the base and learns its guided direction at the four noise levels of its schedule; every third batch walks
the schedule and is scored by the latent classifier."""


def card(folder: Path, target: Path, version: str) -> str:
    """The card's Markdown."""
    steps, guidance = SETTINGS[version]
    return CARD.format(
        version=version,
        what=WHAT[version],
        frames=FRAMES,
        size=SIZE,
        fps=FPS,
        steps=steps,
        guidance=guidance,
        agreement="\n".join([*agreement_lines(target), *curve_lines(folder, version)]),
        vocabulary="; ".join(f"{field}: {', '.join(values)}" for field, values in WORDS.items()),
        combinations=len(training_attributes()) + len(held_out_attributes()),
        held_out=len(held_out_attributes()),
        cores=available_cores(),
        cpu=cpu_name(),
        stages="\n".join(stage_lines(folder, version)),
        noise=LATENT_NOISE,
        few_step=FEW_STEP if version == "2" else "",
    )


def write_card(folder: Path, target: Path, version: str) -> None:
    """Writes `README.md` beside the weights."""
    (target / "README.md").write_text(card(folder, target, version))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("var/training"))
    parser.add_argument("target", type=Path, help="a packaged and evaluated model folder, for example models/.../1")
    options = parser.parse_args()
    write_card(options.folder, options.target, options.target.name)
