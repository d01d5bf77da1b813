"""What every stage of training shares: schedule, moving average, checkpoints, a progress line, a loss plot."""

import csv
import math
import time
from pathlib import Path

import torch
from torch import nn

from videogen.media.charts import Series, line_chart


class MovingAverage:
    """An exponential moving average of a model's parameters, warmed up as min(decay, (1 + n) / (10 + n))."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.shadow = {name: tensor.detach().clone().float() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, tensor in model.state_dict().items():
            self.shadow[name].lerp_(tensor.float(), 1 - decay)


def set_learning_rate(optimisers: list[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group to `factor` times its `peak_lr`."""
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = factor * group["peak_lr"]


def trapezoid(progress: float, warm_up: float = 0.02, decay: float = 0.35) -> float:
    """Learning-rate factor at `progress` in [0, 1]: linear warm-up, plateau, cosine to 2 % over the last `decay`."""
    if progress < warm_up:
        return max(progress / warm_up, 0.02)
    if progress < 1 - decay:
        return 1.0
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, (progress - 1 + decay) / decay)))


class Log:
    """A CSV of training figures, with a one-line summary on the terminal."""

    def __init__(self, path: Path) -> None:
        self.path, self.started = path, time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **figures: float) -> None:
        row = {"minutes": round((time.monotonic() - self.started) / 60, 2), **figures}
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()})
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()), flush=True)


def save_checkpoint(path: Path, **state: object) -> None:
    """Writes a checkpoint beside its final name and renames it, so that a kill leaves the old one whole."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load_checkpoint(path: Path) -> dict | None:
    """The checkpoint at `path`, or None where there is none. Read with `weights_only`, so it can run no code."""
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def plot_log(path: Path, column: str, target: Path) -> None:
    """Draws one column of a log as an SVG line against the samples seen."""
    with path.open() as file:
        rows = [(float(row["samples"]), float(row[column])) for row in csv.DictReader(file) if row.get(column)]
    if rows:
        target.write_text(line_chart(column, [Series(column, rows)], "samples", column))
