"""Whether a version fits into memory beside those that are loaded: what they take tells what it will, by its size."""

import importlib
from collections.abc import Collection
from pathlib import Path

import psutil

from videogen.artifacts import Artifacts
from videogen.devices import Device
from videogen.resolve import WEIGHTS

RESERVE = 0.05
"""Share of what is free that stays so."""
CGROUP = Path("/sys/fs/cgroup")


def fits(digest: str, loaded: Collection[str], pid: int, artifacts: Artifacts, device: Device) -> bool:
    """Is there room on `device` for version `digest` beside the versions `loaded` in process `pid`?

    It is expected to take as much to a byte of its weights as they do, libraries and buffers included. Raises
    ArtifactMissing.
    """
    there = sum(artifacts.manifest(WEIGHTS, one).size for one in loaded)
    used, free = _of_machine(pid) if device.kind == "cpu" else _of_gpu(device)
    return there == 0 or used * artifacts.manifest(WEIGHTS, digest).size <= (1 - RESERVE) * free * there


def _of_machine(pid: int) -> tuple[int, int]:
    """Bytes that the process has, none if it is gone, and that the machine and its container have left."""
    try:
        used = psutil.Process(pid).memory_info().rss
    except psutil.NoSuchProcess:
        used = 0
    return used, min(psutil.virtual_memory().available, left_to_container(CGROUP))


def _of_gpu(device: Device) -> tuple[int, int]:
    """Bytes that are in use, by whomever, and that are free."""
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(device.id))
    finally:
        nvml.nvmlShutdown()
    return memory.used, memory.free


def left_to_container(folder: Path) -> int:
    """Bytes that cgroup v2 allows beyond those in use that cannot be dropped; without a limit, more than there are."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - int(used) + int(stat["inactive_file"]))
