"""What a step costs on an NVIDIA GPU: T(B) over batches and streams, for the shipped model and at real models' sizes.

    python -m tests.benchmarks.gpu_steps [--models wan-1.3b ltx-2b svd-xt wan-14b] [--results FOLDER]

The shipped model runs with its own weights, and its videos are compared with the CPU's. The public models have their
published configurations and sizes, and random weights: their cost is real, their pictures are not. All run in PyTorch.
"""

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.benchmarks import shared
from tests.benchmarks.shared import SHIPPED, table, write
from videogen.engines.cache import fused_schedule
from videogen.engines.fidelity import fidelity, reference_frames
from videogen.engines.networks import Sampler
from videogen.engines.profile import example_inputs
from videogen.engines.pytorch import TorchEngine
from videogen.evaluation import evaluation_prompts, questions
from videogen.models.spec import read_spec

FOLDER = SHIPPED / "2"
TINY_BATCHES, TINY_STREAMS = (1, 2, 4, 8, 16, 32, 64, 128), (1, 2, 4)
CLIPS = 16
LONGEST_S = 2.5
"""A batch whose step took longer is the last of its model."""

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Published:
    """A denoiser at its published configuration. `inputs`: what its forward takes, shapes without the batch."""

    size: str
    steps: int
    rows: int
    """Denoiser rows for one video: 2 with classifier-free guidance."""
    make: Callable[[], nn.Module]
    inputs: Shapes
    extra: dict[str, Any]
    batches: tuple[int, ...] = (1, 2, 4, 8)


def _wan(heads: int, ffn: int, layers: int) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        from diffusers import WanTransformer3DModel

        return WanTransformer3DModel(num_attention_heads=heads, ffn_dim=ffn, num_layers=layers)

    return make


def _svd() -> nn.Module:
    from diffusers import UNetSpatioTemporalConditionModel

    return UNetSpatioTemporalConditionModel(num_attention_heads=(5, 10, 20, 20), num_frames=25)


def _ltx() -> nn.Module:
    from diffusers import LTXVideoTransformer3DModel

    return LTXVideoTransformer3DModel()


WAN = {"hidden_states": (16, 21, 60, 104), "timestep": (), "encoder_hidden_states": (512, 4096)}
MODELS = {
    "ltx-2b": Published(
        "704x512, 121 frames", 40, 2, _ltx,
        {"hidden_states": (16 * 16 * 22, 128), "encoder_hidden_states": (128, 4096), "timestep": (),
         "encoder_attention_mask": (128,)},
        {"num_frames": 16, "height": 16, "width": 22},
    ),
    "svd-xt": Published(
        "1024x576, 25 frames", 25, 2, _svd,
        {"sample": (25, 8, 72, 128), "timestep": (), "encoder_hidden_states": (1, 1024), "added_time_ids": (3,)}, {},
        batches=(1, 2, 4),  # at 8 its temporal attention asks for more blocks than a CUDA grid has
    ),
    "wan-1.3b": Published("832x480, 81 frames", 50, 2, _wan(12, 8960, 30), WAN, {}),
    "wan-14b": Published("832x480, 81 frames", 50, 2, _wan(40, 13824, 40), WAN, {}),
}  # fmt: skip


class Fp8Linear(nn.Module):
    """A linear layer in e4m3: weights scaled by row once, inputs by row at every call, sums in bf16's tensor cores."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        quantised, self.scale = _by_row(linear.weight.detach())
        self.weight, self.scale = quantised.t(), self.scale.t()
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def forward(self, given: torch.Tensor) -> torch.Tensor:
        rows, scale = _by_row(given.reshape(-1, given.shape[-1]))
        found = torch._scaled_mm(rows, self.weight, scale, self.scale, out_dtype=torch.bfloat16)
        found = found if self.bias is None else found + self.bias
        return found.view(*given.shape[:-1], -1)


@torch.compile(dynamic=True)  # one pass over the values instead of four
def _by_row(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    scale = values.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / 448
    return (values / scale).to(torch.float8_e4m3fn), scale


def to_fp8(network: nn.Module) -> int:
    """Changes the linear layers of the blocks, which hold nearly all the work; returns how many."""
    changed = 0
    for module in [m for name, m in network.named_modules() if "block" in name]:
        for name, child in module.named_children():
            if isinstance(child, nn.Linear) and child.in_features % 16 == 0 and child.out_features % 16 == 0:
                setattr(module, name, Fp8Linear(child))
                changed += 1
    return changed


def seconds(work: Callable[[], object], budget: float = 1.5, least: int = 3) -> float:
    """Median of at least `least` calls after a warm one, each waited for."""
    work()
    torch.cuda.synchronize()
    taken: list[float] = []
    while len(taken) < least or sum(taken) < budget:
        started = time.perf_counter()
        work()
        torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
        if taken[-1] > LONGEST_S / 2:
            break
    return statistics.median(taken)


def ceiling(side: int = 8192) -> float:
    """Operations a second of a matrix product in bf16, on random numbers."""
    left, right = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / seconds(lambda: left @ right, budget=0.3, least=10)


def tiny_rows() -> Iterator[list[object]]:
    """The fused sampler as CUDA graphs, one per stream, all replayed together; and eager, on one stream."""
    schedule = fused_schedule(FOLDER)
    engine = TorchEngine(FOLDER, device="cuda", sigmas=schedule.sigmas, timesteps=schedule.timesteps)
    network = engine._networks["sampler"]
    for batch in TINY_BATCHES:
        given = {n: torch.from_numpy(v).cuda() for n, v in example_inputs(FOLDER, engine, batch)["sampler"].items()}
        with torch.inference_mode():
            eager = seconds(lambda given=given: network(**given), budget=0.5)
            row: list[object] = [batch, f"{1e3 * eager:.2f}", f"{batch / eager:.0f}"]
            for streams in TINY_STREAMS:
                replays = [_graph(network, given) for _ in range(streams)]

                def together(replays: list[Any] = replays) -> None:
                    for graph, stream in replays:
                        with torch.cuda.stream(stream):
                            graph.replay()

                taken = seconds(together, budget=0.5)
                row += [f"{1e3 * taken:.2f}", f"{streams * batch / taken:.0f}"]
                del replays
                torch.cuda.empty_cache()
        yield row


def _graph(network: Sampler, given: dict[str, torch.Tensor]) -> tuple[torch.cuda.CUDAGraph, torch.cuda.Stream]:
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            expected = network(**given)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=stream):
        found = network(**given)
    graph.replay()
    torch.cuda.synchronize()
    assert torch.allclose(found[0], expected[0], rtol=1e-3, atol=1e-3)
    return graph, stream


def tiny_fidelity() -> str:
    """The videos of the GPU against those of the CPU."""
    spec, schedule = read_spec(FOLDER), fused_schedule(FOLDER)
    requests = questions(evaluation_prompts(CLIPS), spec, "benchmark", "benchmark", None)
    engine = TorchEngine(FOLDER, device="cuda", sigmas=schedule.sigmas, timesteps=schedule.timesteps)
    found = fidelity(FOLDER, engine, requests, reference_frames(FOLDER, requests), batch_sizes=(8,))
    return f"PSNR {found.mean_psnr:.1f} dB on average, {found.worst_psnr:.1f} dB at worst; SSIM {found.mean_ssim:.4f}"


def published_rows(name: str, peak: float) -> Iterator[list[object]]:
    """A row per batch, in bf16 and then in fp8, as long as memory and time allow."""
    model = MODELS[name]
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        network = model.make().cuda().eval().requires_grad_(False)
    torch.set_default_dtype(torch.float32)
    params = sum(p.numel() for p in network.parameters()) / 1e9
    reference = None
    for precision in ("bf16", "fp8"):
        if precision == "fp8" and not to_fp8(network):
            return
        alone = None
        for batch in model.batches:
            torch.cuda.reset_peak_memory_stats()
            given = _inputs(model, batch)
            try:
                with torch.inference_mode():
                    first = network(**given, **model.extra, return_dict=False)[0].float()
                    taken = seconds(lambda given=given: network(**given, **model.extra, return_dict=False))
                    flops = _operations(network, given, model.extra) if precision == "bf16" else None
            except torch.OutOfMemoryError:
                yield [name, f"{params:.1f} G", model.size, precision, batch, "out of memory", *[""] * 6]
                break
            if batch == 1:
                alone, other = taken, reference
                reference = first if reference is None else reference
            error = "" if precision == "bf16" or batch > 1 else f"{_distance(first, other):.3f}"
            share = "" if flops is None else f"{flops / taken / peak:.2f}"
            memory = torch.cuda.max_memory_allocated() / 2**30
            whole = model.steps * model.rows * taken / batch
            yield [name, f"{params:.1f} G", model.size, precision, batch, f"{1e3 * taken:.0f}",
                   f"{taken / batch / alone:.2f}", "" if flops is None else f"{flops / 1e12:.0f}", share,
                   f"{whole:.1f}", f"{memory:.0f}", error]  # fmt: skip
            if taken > LONGEST_S:
                break


def _inputs(model: Published, batch: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator("cuda").manual_seed(0)
    made = {}
    for name, shape in model.inputs.items():
        if name == "timestep":
            made[name] = torch.full((batch,), 500.0, device="cuda")
        elif name.endswith("mask"):
            made[name] = torch.ones((batch, *shape), device="cuda", dtype=torch.bfloat16)
        else:
            made[name] = torch.randn((batch, *shape), device="cuda", dtype=torch.bfloat16, generator=generator)
    return made


def _operations(network: nn.Module, given: dict[str, torch.Tensor], extra: dict[str, Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        network(**given, **extra, return_dict=False)
    return counter.get_total_flops()


def _distance(found: torch.Tensor, reference: torch.Tensor) -> float:
    return float(torch.linalg.norm(found - reference) / torch.linalg.norm(reference))


def gpu() -> str:
    """The GPU in a line."""
    asked = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True).stdout.strip() or torch.cuda.get_device_name()
    return f"{found}, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", choices=MODELS, default=list(MODELS))
    parser.add_argument("--results", type=Path, default=shared.RESULTS)
    options = parser.parse_args()
    shared.RESULTS = options.results
    peak = ceiling()
    lines = [f"{gpu()}. Matrix product 8192³ in bf16: {peak / 1e12:.0f} TFLOP/s.", ""]
    lines += ["## videogen-tiny version 2, float32", "", f"Against the CPU's videos: {tiny_fidelity()}.", ""]
    lines += ["The fused sampler (four steps and the decoder), milliseconds a call and videos a second."]
    heads = [f"{s} stream{'s' * (s > 1)}, graphs: {what}" for s in TINY_STREAMS for what in ("ms", "videos/s")]
    found: list[list[object]] = []
    for row in tiny_rows():
        sys.stderr.write(f"tiny {row}\n")
        found.append(row)
    lines += table(["batch", "eager ms", "eager videos/s", *heads], found)
    rows: list[list[object]] = []
    for name in options.models:
        for row in published_rows(name, peak):
            sys.stderr.write(f"{row}\n")
            rows.append(row)
        torch.cuda.empty_cache()
    lines += ["", "## Published models, random weights", ""]
    lines += [
        "A denoiser call on so many rows. `alone`: time a row over that of batch 1. `share`: of the product above."
    ]
    lines += [
        "`seconds a video`: the denoiser's calls of a whole video at its published steps, with guidance. `error`:"
    ]
    lines += ["the distance of fp8's output from bf16's, over its norm."]
    head = ["model", "parameters", "size", "precision", "batch", "ms", "alone", "TFLOP", "share", "seconds a video",
            "GiB", "error"]  # fmt: skip
    lines += table(head, rows)
    write("gpu_steps", "What a step costs on a GPU", __spec__.name, lines)


if __name__ == "__main__":
    main()
