import signal
import subprocess
import sys
import threading
import time

import pytest

from videogen.device_leases import lease_device
from videogen.devices import Device
from videogen.errors import DeviceBusy

FIRST = Device("nvidia", "GPU-a", "NVIDIA H200", "sm_90", 141 << 30)
SECOND = Device("nvidia", "GPU-b", "NVIDIA H200", "sm_90", 141 << 30, index=1)

_HOLDER = """
import sys, time
from pathlib import Path
from videogen.device_leases import lease_device
from videogen.devices import Device

device = Device("nvidia", "GPU-a", "NVIDIA H200", "sm_90", 141 << 30)
with lease_device([device], sys.argv[2], Path(sys.argv[1]), purpose="building tiny@2"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """Starts another process that holds the first device, and waits until it does."""
    started = []

    def start(mode: str) -> subprocess.Popen:
        command = [sys.executable, "-c", _HOLDER, str(tmp_path), mode]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def _lease(folder, mode, devices=(FIRST,), wait_s=0.2):
    return lease_device(devices, mode, folder, purpose="a test", wait_s=wait_s)


def test_sharers_share_and_nobody_shares_with_an_exclusive_holder(tmp_path, holder):
    sharing = holder("shared")
    with _lease(tmp_path, "shared") as lease:
        assert (lease.device, lease.mode) == (FIRST, "shared")
    with pytest.raises(DeviceBusy):
        with _lease(tmp_path, "exclusive"):
            pass
    sharing.kill()
    sharing.wait()
    building = holder("exclusive")
    said = rf"NVIDIA H200 .* is in use: exclusive by process {building.pid} \(building tiny@2\)"
    for mode in ("shared", "exclusive"):
        with pytest.raises(DeviceBusy, match=said):
            with _lease(tmp_path, mode):
                pass


def test_a_killed_holder_holds_nothing(tmp_path, holder):
    process = holder("exclusive")
    process.send_signal(signal.SIGKILL)
    process.wait()
    with _lease(tmp_path, "exclusive", wait_s=5):
        pass


def test_a_lease_ends_with_its_block_even_if_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        with _lease(tmp_path, "exclusive"):
            raise ZeroDivisionError
    with _lease(tmp_path, "exclusive"):
        pass
    assert list((tmp_path / "GPU-a.holders").iterdir()) == []


def test_threads_of_one_process_exclude_each_other(tmp_path):
    with _lease(tmp_path, "exclusive"):
        with pytest.raises(DeviceBusy):
            with _lease(tmp_path, "shared"):
                pass


def test_the_next_device_if_the_first_is_taken(tmp_path):
    with _lease(tmp_path, "exclusive", (FIRST, SECOND)) as one, _lease(tmp_path, "exclusive", (FIRST, SECOND)) as other:
        assert (one.device, other.device) == (FIRST, SECOND)
        with pytest.raises(DeviceBusy):
            with _lease(tmp_path, "exclusive", (FIRST, SECOND)):
                pass


def test_who_waits_for_exclusive_use_is_not_overtaken_by_sharers(tmp_path):
    order, sharing = [], _lease(tmp_path, "shared")
    sharing.__enter__()

    def take(mode: str) -> None:
        with _lease(tmp_path, mode, wait_s=30):
            order.append(mode)

    exclusive = threading.Thread(target=take, args=("exclusive",))
    exclusive.start()
    _until_turn_is_taken(tmp_path)
    late = threading.Thread(target=take, args=("shared",))
    late.start()
    time.sleep(0.3)
    assert order == []  # the late one could share, if it were let past
    sharing.__exit__(None, None, None)
    exclusive.join()
    late.join()
    assert order == ["exclusive", "shared"]


def _until_turn_is_taken(folder) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with _lease(folder, "shared", wait_s=0):
                pass
        except DeviceBusy:
            return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_waiting_opens_no_files_without_end(tmp_path):
    import psutil

    with _lease(tmp_path, "exclusive"):
        before, counted = psutil.Process().num_fds(), []
        count = threading.Timer(0.8, lambda: counted.append(psutil.Process().num_fds()))
        count.start()
        with pytest.raises(DeviceBusy):
            with _lease(tmp_path, "exclusive", wait_s=1.2):
                pass
        count.join()
    assert counted[0] <= before + 4
