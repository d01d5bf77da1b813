"""The device: what it is, and the right to use it."""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import dagster as dg
from pydantic import Field

from videogen.device_leases import DeviceLease, lease_device
from videogen.devices import Device, find_devices
from videogen.settings import read_settings

DEVICE_POOL = "device"
"""The pool of every asset and check that needs a device. `deploy/dagster.yaml` limits it: one run at a time."""


def gpu_op_tags(gpu: str = "nvidia.com/gpu") -> dict[str, Any]:
    """What a step that needs a device asks of Kubernetes; other executors ignore it.

    `gpu` is the extended resource, such as `nvidia.com/mig-1g.18gb` for a slice; "none" for a cluster without GPUs.
    On ops and not on jobs: what is launched from the UI carries no job tags.
    """
    container: dict[str, Any] = {"volume_mounts": [{"name": "dshm", "mount_path": "/dev/shm"}]}
    pod: dict[str, Any] = {"volumes": [{"name": "dshm", "empty_dir": {"medium": "Memory"}}]}
    if gpu != "none":
        container["resources"] = {"limits": {gpu: "1"}}
        pod["tolerations"] = [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    job = {"ttl_seconds_after_finished": 3600}
    return {"dagster-k8s/config": {"container_config": container, "pod_spec_config": pod, "job_spec_config": job}}


GPU_OP_TAGS = gpu_op_tags(os.environ.get("VIDEOGEN_GPU_RESOURCE") or "nvidia.com/gpu")
"""The op tags of every asset and check that needs a device."""


class DeviceResource(dg.ConfigurableResource):
    """The devices of this machine: NVIDIA GPUs, MIG slices, or the CPU; and leases on them.

    The pool keeps two runs of one Dagster instance apart; the lease keeps every process of the machine apart.
    """

    locks: str | None = Field(
        default=None,
        description=(
            "The folder where leases are kept; by default VIDEOGEN_DEVICE_LOCKS, or in the home folder. Installations"
            " that share a device name the same one."
        ),
    )
    wait_seconds: float | None = Field(
        default=None, description="How long to wait for a device before giving up; by default as long as it takes."
    )

    def devices(self) -> list[Device]:
        """What this process may use, the preferred one first. Raises DeviceError."""
        return find_devices()

    def device(self) -> Device:
        """The preferred device. Raises DeviceError."""
        return self.devices()[0]

    def lease(self, mode: Literal["shared", "exclusive"], purpose: str) -> AbstractContextManager[DeviceLease]:
        """Holds a device for a `with` block: exclusive to build or measure, shared to generate. Raises DeviceBusy."""
        folder = Path(self.locks) if self.locks else read_settings().device_locks
        return lease_device(self.devices(), mode, folder, purpose=purpose, wait_s=self.wait_seconds)
