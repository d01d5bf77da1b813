"""What this machine can run networks on, by name."""

import importlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from videogen.engines.device import available_cores, cpu_architecture, cpu_name
from videogen.errors import DeviceError, InvalidRequest

Kind = Literal["cpu", "nvidia", "mig"]


@dataclass(frozen=True, slots=True)
class Device:
    """One thing that runs networks: the CPU, an NVIDIA GPU, or one MIG slice of it.

    `id` names this very thing (a GPU's UUID), `name` its make, `architecture` what code for it must be built for
    (`sm_90`, or a CPU's instruction set and vector units). `memory` is in bytes, 0 where the system shares it out.
    `index` counts the GPUs as CUDA shows them to this process.
    """

    kind: Kind
    id: str
    name: str
    architecture: str
    memory: int = 0
    cores: int = 0
    index: int = 0

    def __str__(self) -> str:
        size = f"{self.cores} cores" if self.kind == "cpu" else f"{self.memory / 2**30:.0f} GiB"
        return f"{self.name} ({self.architecture}, {size})"

    @property
    def metadata(self) -> dict[str, str | int]:
        """What a record of a build or a measurement says about where it was made."""
        return {"device": self.name, "device_id": self.id, "device_architecture": self.architecture}


def find_devices(environment: Mapping[str, str] | None = None, nvml: Any = None) -> list[Device]:
    """The NVIDIA devices that this process may use, a GPU in MIG mode as its slices; the CPU if there are none.

    CUDA_VISIBLE_DEVICES is followed. `nvml` is the module to ask, NVIDIA's own if not given. Raises DeviceError if
    there is a driver and it does not answer: work must not land on the CPU unseen because a GPU is ill.
    """
    visible = (os.environ if environment is None else environment).get("CUDA_VISIBLE_DEVICES")
    if nvml is None:
        nvml = importlib.import_module("pynvml")
    return _visible(_nvidia_devices(nvml), visible) or [cpu()]


def only(wish: str, environment: Mapping[str, str] | None = None, nvml: Any = None) -> str:
    """What CUDA_VISIBLE_DEVICES must hold so that this process and its children find the one device that is meant.

    `wish` is a GPU's index or the beginning of its UUID, of those that `find_devices` finds, or `cpu`. Raises
    InvalidRequest, naming those that there are, and DeviceError.
    """
    if wish == "cpu":
        return ""
    gpus = [device for device in find_devices(environment, nvml) if device.kind != "cpu"]
    meant = [device for device in gpus if _is_meant(device, wish)]
    if len(meant) != 1:
        there = [f"{device.index} or {device.id} ({device.name})" for device in gpus]
        raise InvalidRequest("--device", wish, "; ".join(["cpu", *there]) + ("" if gpus else "; there is no GPU"))
    return meant[0].id


def cpu() -> Device:
    """This machine's CPU, with the cores that the process may run on."""
    return Device("cpu", "cpu", cpu_name(), cpu_architecture(), cores=available_cores())


def _nvidia_devices(nvml: Any) -> list[Device]:
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        if error.value in (nvml.NVML_ERROR_LIBRARY_NOT_FOUND, nvml.NVML_ERROR_DRIVER_NOT_LOADED):
            return []
        raise DeviceError(f"NVIDIA's driver is there and does not answer: {error}") from error
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [device for index, handle in enumerate(handles) for device in _of_gpu(nvml, handle, index)]
    except nvml.NVMLError as error:
        raise DeviceError(f"NVIDIA's driver could not describe a GPU: {error}") from error
    finally:
        nvml.nvmlShutdown()


def _of_gpu(nvml: Any, handle: Any, index: int) -> list[Device]:
    major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    whole = Device(
        "nvidia",
        nvml.nvmlDeviceGetUUID(handle),
        nvml.nvmlDeviceGetName(handle),
        f"sm_{major}{minor}",
        memory=nvml.nvmlDeviceGetMemoryInfo(handle).total,
        index=index,
    )
    if not _in_mig_mode(nvml, handle):
        return [whole]
    slices = _each_slice(nvml, handle)
    return [
        replace(
            whole,
            kind="mig",
            id=nvml.nvmlDeviceGetUUID(part),
            name=nvml.nvmlDeviceGetName(part),
            memory=nvml.nvmlDeviceGetMemoryInfo(part).total,
        )
        for part in slices
    ]


def _in_mig_mode(nvml: Any, handle: Any) -> bool:
    try:
        return nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_NOT_SUPPORTED:  # most GPUs cannot be sliced
            return False
        raise


def _each_slice(nvml: Any, handle: Any) -> list[Any]:
    found = []
    for position in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position))
        except nvml.NVMLError as error:
            if error.value != nvml.NVML_ERROR_NOT_FOUND:  # positions may be empty
                raise
    return found


def _visible(devices: list[Device], wish: str | None) -> list[Device]:
    """The devices that CUDA_VISIBLE_DEVICES names, in its order: numbers or UUIDs, up to the first unknown."""
    if wish is None:
        return devices
    chosen: list[Device] = []
    for entry in (part.strip() for part in wish.split(",")):
        found = [device for device in devices if _is_meant(device, entry)]
        if not found:
            break
        chosen += found
    return [replace(device, index=index) for index, device in enumerate(chosen)]


def _is_meant(device: Device, entry: str) -> bool:
    return device.index == int(entry) if entry.isdecimal() else bool(entry) and device.id.startswith(entry)
