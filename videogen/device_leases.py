"""Who may use a device now: shared to generate, exclusive to build or to measure."""

import json
import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from videogen.devices import Device
from videogen.errors import DeviceBusy
from videogen.locks import try_file_lock

Mode = Literal["shared", "exclusive"]

_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class DeviceLease:
    """The right to use `device` while the `with` block lasts. A profile counts only if its lease was exclusive."""

    device: Device
    mode: Mode


@contextmanager
def lease_device(
    devices: Sequence[Device], mode: Mode, folder: Path, *, purpose: str, wait_s: float | None = None
) -> Generator[DeviceLease]:
    """Holds one of `devices`: the first that is free, or the first of them once it is.

    It ends with the block, or with the process, however that dies. Who waits for exclusive use is not overtaken by
    those who would share. Leases bind all processes of a machine that name the same `folder`; they are not
    re-entrant. Raises DeviceBusy after `wait_s` seconds (None waits for ever), saying who holds the device and why.
    """
    deadline = time.monotonic() + (float("inf") if wait_s is None else wait_s)
    with ExitStack() as held:
        device = _free_now(devices, mode, folder, held) or _queue(devices[0], mode, folder, held, deadline)
        held.enter_context(_noted(device, mode, folder, purpose))
        yield DeviceLease(device, mode)


def is_wanted(device: Device, folder: Path) -> bool:
    """Is somebody in line for the device? Who shares it for long looks again and again, and gives it up for them."""
    with ExitStack() as turn:
        return not try_file_lock(_turn(device, folder), turn, shared=True)


def _free_now(devices: Sequence[Device], mode: Mode, folder: Path, held: ExitStack) -> Device | None:
    for device in devices:
        with ExitStack() as turn:
            next_in_line = try_file_lock(_turn(device, folder), turn)
            if next_in_line and try_file_lock(_lock(device, folder), held, shared=mode == "shared"):
                return device
    return None


def _queue(device: Device, mode: Mode, folder: Path, held: ExitStack, deadline: float) -> Device:
    """Takes the turn first and keeps it until the device is had, so that nobody who comes later gets in between."""
    with ExitStack() as turn:
        _until(lambda: try_file_lock(_turn(device, folder), turn), device, folder, deadline)
        lock, shared = _lock(device, folder), mode == "shared"
        _until(lambda: try_file_lock(lock, held, shared=shared), device, folder, deadline)
    return device


def _until(attempt: Callable[[], bool], device: Device, folder: Path, deadline: float) -> None:
    while not attempt():
        if time.monotonic() >= deadline:
            raise DeviceBusy(f"{device} is in use: {_holders(device, folder) or 'by a process that just took it'}")
        time.sleep(_POLL_SECONDS)


@contextmanager
def _noted(device: Device, mode: Mode, folder: Path, purpose: str) -> Generator[None]:
    """A note beside the lock for those who wait; the lock alone decides."""
    note = _notes(device, folder) / f"{os.getpid()}-{time.monotonic_ns()}"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"pid": os.getpid(), "mode": mode, "purpose": purpose}))
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _holders(device: Device, folder: Path) -> str:
    found = []
    for path in sorted(_notes(device, folder).glob("*")):
        try:
            note = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):  # just given back, or just being written
            continue
        if psutil.pid_exists(note["pid"]):
            found.append(f"{note['mode']} by process {note['pid']} ({note['purpose']})")
        else:
            path.unlink(missing_ok=True)
    return ", ".join(found)


def _turn(device: Device, folder: Path) -> Path:
    return folder / f"{_name(device)}.turn"


def _lock(device: Device, folder: Path) -> Path:
    return folder / f"{_name(device)}.lock"


def _notes(device: Device, folder: Path) -> Path:
    return folder / f"{_name(device)}.holders"


def _name(device: Device) -> str:
    return device.id.replace("/", "_")
