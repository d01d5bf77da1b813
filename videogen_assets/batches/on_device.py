"""A batch's videos made by the run itself, on a device of its own."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from videogen.requests import AcceptedRequest
from videogen.resolve import WEIGHTS
from videogen.store.records import BatchRecord, Json, ServedEngine
from videogen_assets.opening import Opener

if TYPE_CHECKING:
    from videogen.generate import Clip, Failure, Generator, Progress


@dataclass(slots=True)
class OnDevice:
    """Generates on the engine that passed its gates. The device is leased, and the engine loaded, with the first work.

    The lease goes into `held` and ends with it. `facts` tell what makes the videos, the device too once it is leased.
    """

    batch: BatchRecord
    served: ServedEngine
    artifacts: ArtifactsResource
    engines: EnginesResource
    device: DeviceResource
    held: ExitStack
    facts: dict[str, Json]
    where: str | None = None
    """The device, for people; None before it is leased."""
    _generator: "Generator | None" = None

    def open(self) -> "Generator":
        """Raises DeviceBusy, ArtifactMissing, ArtifactCorrupt, EngineUnavailable."""
        if self._generator is None:
            artifacts = self.artifacts.artifacts()
            folder = artifacts.get(WEIGHTS, self.batch.version_digest)
            lease = self.held.enter_context(self.device.lease("shared", f"answer batch {self.batch.id}"))
            self.facts["device"], self.where = lease.device.name, str(lease.device)
            opener = Opener(artifacts, self.engines)
            self._generator = opener.generator(folder, self.served.engine_key, self.served.batch_size)
        return self._generator

    def generate(
        self, requests: Sequence[AcceptedRequest], on_progress: "Progress | None" = None
    ) -> "Iterator[Clip | Failure]":
        """As `videogen.generate.Generator` does. Raises as `open`."""
        return self.open().generate(requests, on_progress)
