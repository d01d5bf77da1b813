"""Muon, batched over same-shaped matrices: float32 weights and momentum; the iterations stand bfloat16.

Jordan et al. 2024, "Muon: an optimizer for hidden layers": momentum, orthogonalised by five Newton-Schulz
iterations. `torch.optim.Muon` takes one matrix at a time, which took 40 times as long on a CPU.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import nn

from training.precision import has_bfloat16_units

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """The nearest semi-orthogonal matrices, approximately: (N, rows, columns) -> the same shape."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if has_bfloat16_units():
        x = x.bfloat16()
    for _ in range(iterations):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.transpose(1, 2) if tall else x).float()


class Muon(torch.optim.Optimizer):
    """Muon for weights of two dimensions or more (convolutions are flattened to matrices)."""

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            same_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    same_shape[(parameter.shape[0], parameter[0].numel())].append(parameter)
            for shape, parameters in same_shape.items():
                self._step_together(parameters, shape, group["lr"], group["momentum"])

    def _step_together(
        self, parameters: list[nn.Parameter], shape: tuple[int, int], lr: float, momentum: float
    ) -> None:
        updates = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            state["momentum"].lerp_(parameter.grad, 1 - momentum)
            updates.append(parameter.grad.lerp(state["momentum"], momentum).reshape(shape))
        scale = lr * max(1.0, shape[0] / shape[1]) ** 0.5
        for parameter, update in zip(parameters, orthogonalise(torch.stack(updates)), strict=True):
            parameter.add_(update.reshape(parameter.shape), alpha=-scale)


def optimisers(
    model: nn.Module, hidden: list[nn.Parameter], muon_lr: float, adam_lr: float
) -> list[torch.optim.Optimizer]:
    """Muon for `hidden`, AdamW for every other parameter of `model`. Each group remembers its peak as `peak_lr`."""
    inner = {id(parameter) for parameter in hidden}
    outer = [p for p in model.parameters() if p.requires_grad and id(p) not in inner]
    result = [Muon(hidden, lr=muon_lr), torch.optim.AdamW(outer, lr=adam_lr, betas=(0.9, 0.98), weight_decay=0.0)]
    for optimiser in result:
        for group in optimiser.param_groups:
            group["peak_lr"] = group["lr"]
    return result
