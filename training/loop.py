"""What every stage of training shares: schedule, moving average, checkpoints, a progress line, a loss plot."""

import csv
import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from videogen.media.charts import Series, line_chart

SAVE_SECONDS = 120.0


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
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **figures: float) -> None:
        fresh = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(figures))
            if fresh:
                writer.writeheader()
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in figures.items()})
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in figures.items()), flush=True)


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


class Run:
    """One stage of training that resumes where it was stopped: its model, optimisers, moving average and log.

    Iterating yields the number of each step still to take; the body calls `advance` with its loss. Every stage is
    counted in steps and not in minutes, so that a slower machine takes longer and ends with the same model.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        model: nn.Module,
        optimisers: list[torch.optim.Optimizer],
        *,
        steps: int,
        decay: float,
        seed: int,
    ) -> None:
        self.folder, self.name, self.model, self.optimisers, self.total = folder, name, model, optimisers, steps
        self.average, self.log = MovingAverage(model, decay), Log(folder / f"{name}.csv")
        self.steps, self.seconds = 0, 0.0
        self._peaks = [[group["peak_lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        self._resume()
        torch.manual_seed(seed + self.steps)

    def __iter__(self) -> Iterator[int]:
        last = saved = time.monotonic()
        while self.steps < self.total:
            set_learning_rate(self.optimisers, trapezoid(self.steps / self.total))
            yield self.steps
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            if now - saved > SAVE_SECONDS:
                self.save()
                last = saved = time.monotonic()
        self.save()

    def advance(self, loss: torch.Tensor) -> None:
        """Takes one step of every optimiser down the gradient of `loss`."""
        loss.backward()
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.average.update(self.model)
        self.steps += 1

    def tell(self, samples: int, **figures: float) -> None:
        """Logs figures beside the steps, the samples seen and the minutes spent, earlier sittings included."""
        self.log.write(steps=self.steps, samples=samples, minutes=self.seconds / 60, **figures)

    def save(self) -> None:
        save_checkpoint(
            self.folder / f"{self.name}.pt",
            model=self.model.state_dict(),
            average=self.average.shadow,
            optimisers=[optimiser.state_dict() for optimiser in self.optimisers],
            steps=self.steps,
            seconds=self.seconds,
        )

    def _resume(self) -> None:
        state = load_checkpoint(self.folder / f"{self.name}.pt")
        if state is None:
            return
        self.model.load_state_dict(state["model"])
        self.average.shadow, self.average.updates = state["average"], state["steps"]
        for optimiser, saved, peaks in zip(self.optimisers, state["optimisers"], self._peaks, strict=True):
            optimiser.load_state_dict(saved)
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["peak_lr"] = peak
        self.steps, self.seconds = state["steps"], state["seconds"]
        print(f"{self.name}: goes on from step {self.steps} of {self.total}", flush=True)
