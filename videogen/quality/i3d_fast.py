"""I3D through OpenVINO in single precision: the same logits to about 1e-5 at half of PyTorch's time on a CPU."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videogen.artifacts import Artifacts
from videogen.quality.i3d import SIDE, batches, load_i3d, prepare
from videogen.quality.i3d_weights import KEY, KIND, i3d_weights

GRAPH = "i3d.xml"
TRACED_WITH = r".*(Tensor to a Python boolean|torch\.jit\.trace)"


def _convert(weights: Path, frames: int, out: Path) -> None:
    import openvino as ov
    import torch

    example = torch.zeros(1, 3, frames, SIDE, SIDE)
    with warnings.catch_warnings():
        # Tracing fixes the paddings; the shape is fixed too, so they are right.
        warnings.filterwarnings("ignore", TRACED_WITH)
        graph = ov.convert_model(load_i3d(weights), example_input=example, input=[tuple(example.shape)])
    ov.save_model(graph, out / GRAPH, compress_to_fp16=False)


def fast_logits(artifacts: Artifacts, clips: Sequence[np.ndarray], threads: int = 1, fetch: bool = False) -> np.ndarray:
    """The features of FVD, float64 (n, 400), as `videogen.quality.i3d.logits` gives them.

    The graph is made once for each number of frames and kept. Raises InvalidFrames, and MetricUnavailable where the
    weights aren't there and `fetch` doesn't allow, or can't manage, their download.
    """
    import openvino as ov

    weights = i3d_weights(artifacts, fetch)
    compiled, parts = None, []
    for stack in batches(clips, 1):
        if compiled is None:
            frames = stack.shape[1]
            key = f"{KEY}-openvino-{ov.__version__.split('-')[0]}-{frames}"
            folder, _ = artifacts.build(KIND, key, lambda scratch, t=frames: _convert(weights, t, scratch))
            settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
            compiled = ov.compile_model(folder / GRAPH, "CPU", settings)
        parts.append(np.asarray(compiled(prepare(stack).numpy())[0], np.float64))
    return np.concatenate(parts)
