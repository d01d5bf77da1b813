"""The builders by target. Their runtimes are imported only when one is used."""

from typing import get_args

from videogen.engines.base import Builder, Precision, Target
from videogen.errors import EngineUnavailable

CPU_CANDIDATES: tuple[tuple[Target, Precision], ...] = (
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
)
"""What is measured against each other for the target "cpu"."""

GPU_CANDIDATES: dict[str, tuple[tuple[Target, Precision], ...]] = {
    "tensorrt-rtx": (("tensorrt-rtx", "fp16"), ("tensorrt-rtx", "fp32")),
    "tensorrt": (("tensorrt", "fp16"), ("tensorrt", "fp32")),
}
"""What is built for the other targets, the fastest first: the next one only where this one's videos are refused."""


def builder_for(target: Target) -> Builder:
    """Raises EngineUnavailable for a target that is not built, such as "torch"."""
    if target == "onnxruntime":
        from videogen.engines.ort import OnnxRuntimeBuilder

        return OnnxRuntimeBuilder()
    if target == "openvino":
        from videogen.engines.ov import OpenVinoBuilder

        return OpenVinoBuilder()
    if target in ("tensorrt", "tensorrt-rtx"):
        from videogen.engines.tensorrt import TensorRtBuilder

        return TensorRtBuilder(target)
    raise EngineUnavailable(
        f"there is no builder for {target!r}; allowed: {', '.join(t for t in get_args(Target)[1:])}"
    )
