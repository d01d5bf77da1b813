"""Whether an NVIDIA GPU is there, asked of the driver itself: no package needs to be installed to know."""

import ctypes

from videogen.errors import EngineUnavailable

MAJOR, MINOR = 75, 76
"""CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR."""


def compute_capability(device: int = 0) -> tuple[int, int]:
    """Major and minor compute capability of a GPU, (9, 0) for Hopper. Raises EngineUnavailable: what is missing."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise EngineUnavailable(
            f"this engine needs an NVIDIA GPU, and this machine has no NVIDIA driver: {error}"
        ) from error
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value <= device:
        raise EngineUnavailable(f"this engine needs an NVIDIA GPU, and the driver shows {count.value}")
    found = []
    for attribute in (MAJOR, MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        found.append(value.value)
    return found[0], found[1]
