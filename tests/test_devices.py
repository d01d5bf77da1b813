import subprocess
from types import SimpleNamespace

import psutil
import pytest

from videogen.devices import Device, cpu, find_devices, only
from videogen.errors import DeviceError, InvalidRequest


class FakeNvml:
    """Two GPUs as NVML describes them, the second cut into slices at positions 0 and 2. For machines without any."""

    NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED = 12, 9
    NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND = 3, 6
    NVML_DEVICE_MIG_ENABLE = 1

    class NVMLError(Exception):
        def __init__(self, value: int) -> None:
            super().__init__(f"NVML error {value}")
            self.value = value

    def __init__(self, start_error: int | None = None) -> None:
        self.start_error, self.open = start_error, 0

    def nvmlInit(self):
        if self.start_error is not None:
            raise self.NVMLError(self.start_error)
        self.open += 1

    def nvmlShutdown(self):
        self.open -= 1

    def nvmlDeviceGetCount(self):
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):
        return f"GPU-{'ab'[index]}"

    def nvmlDeviceGetUUID(self, handle):
        return handle

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA H200 MIG 1g.18gb" if handle.startswith("MIG") else "NVIDIA H200"

    def nvmlDeviceGetCudaComputeCapability(self, handle):
        return (9, 0)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(total=(18 if handle.startswith("MIG") else 141) << 30)

    def nvmlDeviceGetMigMode(self, handle):
        if handle == "GPU-a":
            raise self.NVMLError(self.NVML_ERROR_NOT_SUPPORTED)
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, handle):
        return 3

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle, position):
        if position == 1:
            raise self.NVMLError(self.NVML_ERROR_NOT_FOUND)
        return f"MIG-{position}"


def _nvidia_smi() -> list[str]:
    """UUIDs that NVIDIA's own tool lists, if it is here."""
    try:
        command = ["nvidia-smi", "--query-gpu=uuid", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return []


def test_the_cpu_where_there_is_no_gpu():
    if _nvidia_smi():
        pytest.skip("this machine has a GPU")
    (device,) = find_devices({})
    assert device == cpu()
    assert (device.kind, device.id, device.memory) == ("cpu", "cpu", 0)
    assert device.cores == len(psutil.Process().cpu_affinity())
    assert device.name in str(device)
    assert device.metadata["device"] == device.name


@pytest.mark.gpu
def test_real_gpus_are_those_that_nvidia_s_own_tool_lists():
    if not _nvidia_smi():
        pytest.skip("this machine has no GPU")
    devices = find_devices({})
    assert {device.id for device in devices if device.kind == "nvidia"} <= set(_nvidia_smi())
    assert all(device.architecture.startswith("sm_") and device.memory > 1 << 30 for device in devices)


def test_gpus_and_slices():
    nvml = FakeNvml()
    assert find_devices({}, nvml) == [
        Device("nvidia", "GPU-a", "NVIDIA H200", "sm_90", 141 << 30, index=0),
        Device("mig", "MIG-0", "NVIDIA H200 MIG 1g.18gb", "sm_90", 18 << 30, index=1),
        Device("mig", "MIG-2", "NVIDIA H200 MIG 1g.18gb", "sm_90", 18 << 30, index=1),
    ]
    assert nvml.open == 0


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("0", ["GPU-a"]),
        ("MIG-2,GPU-a", ["MIG-2", "GPU-a"]),
        ("1", ["MIG-0", "MIG-2"]),
        ("GPU-a,-1,MIG-0", ["GPU-a"]),
        ("", ["cpu"]),
        ("-1", ["cpu"]),
    ],
)
def test_cuda_visible_devices_is_followed(visible, expected):
    devices = find_devices({"CUDA_VISIBLE_DEVICES": visible}, FakeNvml())
    assert [device.id for device in devices] == expected
    assert [device.index for device in devices] == list(range(len(expected)))


@pytest.mark.parametrize("error", [FakeNvml.NVML_ERROR_LIBRARY_NOT_FOUND, FakeNvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_no_driver_means_the_cpu(error):
    assert [device.kind for device in find_devices({}, FakeNvml(start_error=error))] == ["cpu"]


def test_a_driver_that_does_not_answer_is_an_error_and_not_the_cpu():
    with pytest.raises(DeviceError, match="does not answer: NVML error 999"):
        find_devices({}, FakeNvml(start_error=999))


@pytest.mark.parametrize(
    ("visible", "wish", "expected"),
    [
        (None, "0", "GPU-a"),
        (None, "GPU-a", "GPU-a"),
        (None, "MIG-2", "MIG-2"),
        ("MIG-2,GPU-a", "1", "GPU-a"),
        ("GPU-a", "cpu", "cpu"),
    ],
)
def test_the_one_device_that_is_meant_is_the_only_one_left(visible, wish, expected):
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    left = only(wish, environment, FakeNvml())
    assert [device.id for device in find_devices({"CUDA_VISIBLE_DEVICES": left}, FakeNvml())] == [expected]


@pytest.mark.parametrize("wish", ["2", "GPU-c", "1", "", "MIG", "-1"])
def test_a_device_that_is_not_there_or_not_one_is_told_with_those_that_are(wish):
    allowed = r"allowed: cpu; 0 or GPU-a \(NVIDIA H200\); 1 or MIG-0 .*; 1 or MIG-2 "
    with pytest.raises(InvalidRequest, match=f"--device: got {wish!r}; {allowed}"):
        only(wish, {}, FakeNvml())
