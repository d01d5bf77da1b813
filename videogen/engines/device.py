"""What this machine's CPU is, as far as an engine or a measurement depends on it."""

import os
import platform
from functools import cache
from pathlib import Path

VECTOR_UNITS = ("amx_tile", "amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx2", "asimd")


@cache
def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.exists() else []
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}


def cpu_name() -> str:
    """The CPU's model name, e.g. "AMD EPYC"."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def cpu_architecture() -> str:
    """Instruction set and vector units: two machines where this is equal can share a CPU engine."""
    flags = set((_cpuinfo().get("flags") or _cpuinfo().get("Features") or "").split())
    return "-".join([platform.machine(), *(unit for unit in VECTOR_UNITS if unit in flags)])


def available_cores() -> int:
    """The cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
