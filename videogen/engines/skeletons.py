"""Exported networks without their weights: made once per architecture, filled with the weights of each version.

torch.export follows a transformer's Python for half a minute. Versions of a model differ in their weights alone, and
the exporter names every weight as the module does, as long as nothing is folded; so folding comes last.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import onnx
from onnx import numpy_helper
from torch import Tensor

from videogen.artifacts import Artifacts
from videogen.errors import EngineBuildFailed

KIND, FILE = "graph-skeletons", "skeleton.onnx"


def ensure_skeleton(
    artifacts: Artifacts, identity: object, weights: Mapping[str, Tensor], export: Callable[[], onnx.ModelProto]
) -> onnx.ModelProto:
    """The skeleton of the network that `identity` (JSON) stands for, exported now if there is none."""

    def fill(folder: Path) -> None:
        model = export()
        for initializer in model.graph.initializer:
            if initializer.name in weights:
                initializer.ClearField("raw_data")
        onnx.save_model(model, folder / FILE)

    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    folder, _ = artifacts.build(KIND, key, fill)
    return onnx.load_model(folder / FILE)


def filled(skeleton: onnx.ModelProto, weights: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The network with these weights, constants folded. Raises EngineBuildFailed if they are another network's."""
    from onnxscript import optimizer

    for initializer in skeleton.graph.initializer:
        if initializer.name not in weights:
            continue
        tensor = numpy_helper.from_array(weights[initializer.name].detach().numpy(), initializer.name)
        if (tensor.dims, tensor.data_type) != (initializer.dims, initializer.data_type):
            raise EngineBuildFailed(
                f"{initializer.name} has the shape {list(tensor.dims)}, not {list(initializer.dims)}"
            )
        initializer.CopyFrom(tensor)
    return optimizer.optimize(skeleton)
