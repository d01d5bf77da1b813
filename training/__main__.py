"""`make train-tiny`: every stage of videogen-tiny, in order, each resuming where it stopped.

About two hours on two idle cores. Progress, losses (CSV and SVG) and checkpoints lie in var/training; the two
versions end up in models/videogen-tiny, where they replace the ones that ship.
"""

import argparse
import subprocess
import sys
from pathlib import Path

STAGES: dict[str, tuple[str, ...]] = {
    "text_encoder": ("training.text_encoder",),
    "autoencoder": ("training.autoencoder",),
    "denoiser": ("training.denoiser",),
    "few-step": ("training.distil",),
    "package-1": ("training.package", "--name", "denoiser", "--target", "models/videogen-tiny/1", "--version", "1"),
    "package-2": ("training.package", "--name", "few-step", "--target", "models/videogen-tiny/2", "--version", "2"),
    "evaluate-1": ("training.evaluate", "models/videogen-tiny/1"),
    "evaluate-2": ("training.evaluate", "models/videogen-tiny/2"),
    "card-1": ("training.card", "models/videogen-tiny/1"),
    "card-2": ("training.card", "models/videogen-tiny/2"),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("--only", choices=list(STAGES), help="one stage instead of all of them")
    only = parser.parse_args().only
    done = Path("var/training/done")
    done.mkdir(parents=True, exist_ok=True)
    for name in [only] if only else STAGES:
        if not only and (done / name).exists():
            print(f"{name}: done already (remove {done / name} to train it again)")
            continue
        print(f"== {name}", flush=True)
        subprocess.run([sys.executable, "-u", "-m", *STAGES[name]], check=True)
        (done / name).touch()


if __name__ == "__main__":
    main()
