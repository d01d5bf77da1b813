"""Where steps run and who looks after them: said once, carried by every asset and check."""

from typing import Any

from resources.gpu import DEVICE_POOL, GPU_OP_TAGS

OWNERS = ["team:video-models"]

ON_DEVICE: dict[str, Any] = {"pool": DEVICE_POOL, "op_tags": GPU_OP_TAGS}
"""Keyword arguments of every asset and check that needs a device."""
