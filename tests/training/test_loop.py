"""A stage of training that is stopped goes on where it was, and never from half a checkpoint."""

import pytest
import torch
from torch import nn

from training import loop
from training.loop import Run, load_checkpoint, save_checkpoint, trapezoid

STEPS = 12
INPUTS = torch.linspace(-1, 1, 8).reshape(8, 1)


def stage(folder) -> Run:
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.1)
    optimiser.param_groups[0]["peak_lr"] = 0.1
    return Run(folder, "toy", model, [optimiser], steps=STEPS, decay=0.9, seed=0)


def train(run: Run, stop_at: int = STEPS) -> None:
    for step in run:
        if step == stop_at:
            run.save()
            return
        run.advance((run.model(INPUTS) - 3 * INPUTS).square().mean())
        run.tell(samples=8 * run.steps, loss=0.0)


def test_stopped_and_started_again_it_ends_with_the_same_model(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(stage(whole))
    train(stage(parts), stop_at=5)
    resumed = stage(parts)
    assert resumed.steps == 5
    train(resumed)
    one, other = (load_checkpoint(folder / "toy.pt") for folder in (whole, parts))
    assert one["steps"] == other["steps"] == STEPS
    for part in ("model", "average"):
        for name, tensor in one[part].items():
            assert torch.equal(tensor, other[part][name]), (part, name)
    assert len((parts / "toy.csv").read_text().splitlines()) == 1 + STEPS


def test_a_finished_stage_takes_no_further_step(tmp_path):
    train(stage(tmp_path))
    assert list(stage(tmp_path)) == []


def test_killed_while_it_saves_it_goes_on_from_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "toy.pt"
    save_checkpoint(path, steps=1)

    def dies(state, target):
        target.write_bytes(b"half a")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.torch, "save", dies)
        with pytest.raises(KeyboardInterrupt):
            save_checkpoint(path, steps=2)
    assert load_checkpoint(path) == {"steps": 1}


def test_the_learning_rate_rises_stays_and_falls():
    factors = [trapezoid(progress / 100) for progress in range(101)]
    assert factors[0] == 0.02 and factors[10] == factors[60] == 1.0 and factors[100] == pytest.approx(0.02)
    assert sorted(factors[65:], reverse=True) == factors[65:]
