"""I3D (Carreira and Zisserman 2017, arXiv 1705.07750), the RGB network of Kinetics-400, in PyTorch.

FVD (Unterthiner et al. 2018, arXiv 1812.01717) is defined on its 400 logits, averaged over time, with no softmax.
Padding is TensorFlow's SAME, which puts the odd pixel last. Batch normalisation is folded into the weights.
"""

# ruff: noqa: TID253 - imported only where FVD is taken

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from videogen.errors import InvalidFrames
from videogen.media.frames import check_frames

LOGITS = 400
SIDE = 224
MIN_FRAMES = 9  # below, nothing is left of the time axis for the last pooling
MIXED = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}


def _same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pads (B, C, T, H, W) with zeros as TensorFlow's SAME does; before a pooling, x is never negative."""
    pads: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads) if any(pads) else x


def _pool(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> Tensor:
    return functional.max_pool3d(_same(x, kernel, stride), kernel, stride)


class Unit(nn.Conv3d):
    """Convolution and ReLU."""

    def __init__(self, inputs: int, outputs: int, side: int, stride: int = 1) -> None:
        super().__init__(inputs, outputs, side, stride)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that Conv3d gave it
        return functional.relu_(super().forward(_same(input, self.kernel_size, self.stride)))


class Mixed(nn.Module):
    """An inception block: four branches over the same input, side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        single, narrow1, wide1, narrow2, wide2, pooled = widths
        self.Branch_0 = nn.ModuleDict({"Conv3d_0a_1x1": Unit(inputs, single, 1)})
        self.Branch_1 = nn.ModuleDict(
            {"Conv3d_0a_1x1": Unit(inputs, narrow1, 1), "Conv3d_0b_3x3": Unit(narrow1, wide1, 3)}
        )
        self.Branch_2 = nn.ModuleDict(
            {"Conv3d_0a_1x1": Unit(inputs, narrow2, 1), "Conv3d_0b_3x3": Unit(narrow2, wide2, 3)}
        )
        self.Branch_3 = nn.ModuleDict({"Conv3d_0b_1x1": Unit(inputs, pooled, 1)})

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for branch in (self.Branch_0, self.Branch_1, self.Branch_2, self.Branch_3):
            y = _pool(x, (3, 3, 3), (1, 1, 1)) if branch is self.Branch_3 else x
            for unit in branch.values():
                y = unit(y)
            branches.append(y)
        return torch.cat(branches, dim=1)


class I3D(nn.Module):
    """Video (B, 3, T >= 9, 224, 224) in [-1, 1] to logits (B, 400)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        for name, (inputs, widths) in MIXED.items():
            self.add_module(name, Mixed(inputs, widths))
        self.Logits = nn.ModuleDict({"Conv3d_0c_1x1": nn.Conv3d(1024, LOGITS, 1)})

    def forward(self, video: Tensor) -> Tensor:
        x = _pool(self.Conv3d_1a_7x7(video), (1, 3, 3), (1, 2, 2))
        x = _pool(self.Conv3d_2c_3x3(self.Conv3d_2b_1x1(x)), (1, 3, 3), (1, 2, 2))
        for name in MIXED:
            if name == "Mixed_4b":
                x = _pool(x, (3, 3, 3), (2, 2, 2))
            elif name == "Mixed_5b":
                x = _pool(x, (2, 2, 2), (2, 2, 2))
            x = self.get_submodule(name)(x)
        x = functional.avg_pool3d(x, (2, 7, 7), stride=1)
        return self.Logits["Conv3d_0c_1x1"](x).mean(dim=(2, 3, 4))


def load_i3d(weights: Path) -> I3D:
    """The network with the weights that `i3d_weights` returned."""
    from safetensors.torch import load_file

    with torch.device("meta"):
        network = I3D()
    network.load_state_dict(load_file(weights), assign=True)
    return network.eval().requires_grad_(False)


def prepare(clips: np.ndarray) -> Tensor:
    """uint8 (B, T, H, W, 3) to the network's input; bilinear, aspect ignored, half-pixel centres."""
    count, frames, height, width, _ = clips.shape
    pictures = torch.from_numpy(clips).reshape(-1, height, width, 3).permute(0, 3, 1, 2).float()
    resized = functional.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return (2 * resized / 255 - 1).reshape(count, frames, 3, SIDE, SIDE).transpose(1, 2)


def batches(clips: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Clips of one shape, stacked `size` at a time. Raises InvalidFrames for a clip that I3D can't take."""
    batch: list[np.ndarray] = []
    for index, clip in enumerate(clips):
        check_frames(clip, f"clip {index}")
        if len(clip) < MIN_FRAMES:
            raise InvalidFrames(f"clip {index} has {len(clip)} frames; I3D needs at least {MIN_FRAMES}")
        if batch and batch[0].shape != clip.shape:
            raise InvalidFrames(f"clip {index} has shape {clip.shape}, the one before {batch[0].shape}")
        batch.append(clip)
        if len(batch) == size:
            yield np.stack(batch)
            batch = []
    if batch:
        yield np.stack(batch)


def logits(network: I3D, clips: Iterable[np.ndarray], batch: int = 2) -> np.ndarray:
    """The features of FVD, float64 (n, 400), of uint8 clips (T >= 9, H, W, 3). Raises InvalidFrames.

    About a second of one CPU core for 16 frames, whatever their size; uses torch's current number of threads.
    """
    with torch.inference_mode():
        parts = [network(prepare(stack)).double().numpy() for stack in batches(clips, batch)]
    return np.concatenate(parts) if parts else np.empty((0, LOGITS))
