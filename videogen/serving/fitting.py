"""Whether a version fits into memory beside those that are loaded: what it needs, by its files, and what is free."""

import importlib
from pathlib import Path

from videogen.artifacts import Artifacts
from videogen.devices import Device
from videogen.engines.cache import ENGINE_KIND
from videogen.resolve import WEIGHTS
from videogen.serving.engine.messages import VersionToLoad

OF_FILES, AT_LEAST = 4.0, 256 * 2**20
"""Bytes of memory to a byte of an engine's files, and what the smallest one takes."""
RESERVE = 0.05
"""Share of what is free that stays so."""
CGROUP = Path("/sys/fs/cgroup")


def fits(to_load: VersionToLoad, artifacts: Artifacts, device: Device) -> bool:
    """Is there room on `device` for one more? Raises ArtifactMissing without its files."""
    return needed(to_load, artifacts) <= (1 - RESERVE) * free(device)


def needed(to_load: VersionToLoad, artifacts: Artifacts) -> int:
    """Bytes, estimated from the files of its engine; from its weights where that is still to be built."""
    is_built = to_load.engine_key is not None and artifacts.has(ENGINE_KIND, to_load.engine_key)
    found = (ENGINE_KIND, to_load.engine_key) if is_built else (WEIGHTS, to_load.version_digest)
    return AT_LEAST + int(OF_FILES * artifacts.manifest(*found).size)


def free(device: Device) -> int:
    """Bytes that are free on it: of a GPU or slice its own, of a CPU what the machine and its container have left."""
    if device.kind == "cpu":
        import psutil

        return min(psutil.virtual_memory().available, _left_to_container(CGROUP))
    nvml = importlib.import_module("pynvml")
    nvml.nvmlInit()
    try:
        return nvml.nvmlDeviceGetMemoryInfo(nvml.nvmlDeviceGetHandleByUUID(device.id)).free
    finally:
        nvml.nvmlShutdown()


def _left_to_container(folder: Path) -> int:
    """What cgroup v2 allows beyond what is in use and cannot be dropped; without a limit, more than there is."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except FileNotFoundError:
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - int(used) + int(stat["inactive_file"]))
