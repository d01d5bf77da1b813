"""What decoding a video costs on an NVIDIA GPU beside its steps: public autoencoders at real sizes, random weights.

python -m tests.benchmarks.gpu_decoders [--results FOLDER]
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from tests.benchmarks import shared
from tests.benchmarks.gpu_steps import gpu, seconds
from tests.benchmarks.shared import table, write

BATCHES = (1, 2)


@dataclass(frozen=True, slots=True)
class Decoder:
    """`latents`: of one video, without the batch. `decode` gives its frames."""

    size: str
    make: Callable[[], nn.Module]
    latents: tuple[int, ...]
    decode: Callable[[nn.Module, torch.Tensor], torch.Tensor]


def _wan() -> nn.Module:
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan()


def _ltx() -> nn.Module:
    from diffusers import AutoencoderKLLTXVideo

    return AutoencoderKLLTXVideo()


def _svd() -> nn.Module:
    from diffusers import AutoencoderKLTemporalDecoder

    return AutoencoderKLTemporalDecoder(
        down_block_types=("DownEncoderBlock2D",) * 4, block_out_channels=(128, 256, 512, 512), layers_per_block=2
    )


def _whole(network: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    return network.decode(latents, return_dict=False)[0]


def _by_frames(network: nn.Module, latents: torch.Tensor) -> torch.Tensor:
    return network.decode(latents.flatten(0, 1), num_frames=latents.shape[1], return_dict=False)[0]


DECODERS = {
    "ltx-2b": Decoder("704x512, 121 frames", _ltx, (128, 16, 16, 22), _whole),
    "svd-xt": Decoder("1024x576, 25 frames", _svd, (25, 4, 72, 128), _by_frames),
    "wan": Decoder("832x480, 81 frames", _wan, (16, 21, 60, 104), _whole),
}


def rows() -> Iterator[list[object]]:
    """A row per autoencoder and batch, in bf16."""
    for name, decoder in DECODERS.items():
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            network = decoder.make().cuda().eval().requires_grad_(False)
        torch.set_default_dtype(torch.float32)
        for batch in BATCHES:
            torch.cuda.reset_peak_memory_stats()
            latents = torch.randn((batch, *decoder.latents), device="cuda", dtype=torch.bfloat16)
            try:
                with torch.inference_mode():
                    shape = tuple(decoder.decode(network, latents).shape)
                    taken = seconds(partial(decoder.decode, network, latents))
            except torch.OutOfMemoryError:
                yield [name, decoder.size, batch, "out of memory", "", ""]
                break
            memory = torch.cuda.max_memory_allocated() / 2**30
            yield [name, decoder.size, batch, f"{1e3 * taken / batch:.0f}", f"{memory:.0f}", "x".join(map(str, shape))]
        del network
        torch.cuda.empty_cache()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=shared.RESULTS)
    shared.RESULTS = parser.parse_args().results
    found = []
    for row in rows():
        sys.stderr.write(f"{row}\n")
        found.append(row)
    lines = [f"{gpu()}. bf16, without tiles or slices.", ""]
    head = ["autoencoder", "size", "videos at once", "ms a video", "GiB", "frames as they come"]
    write("gpu_decoders", "What decoding costs on a GPU", __spec__.name, [*lines, *table(head, found)])


if __name__ == "__main__":
    main()
