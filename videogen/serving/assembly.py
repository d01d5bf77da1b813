"""What stands behind the faces of `videogen serve`: store, engine process, the core over both, and who looks on."""

import os
import socket
import uuid
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from videogen.devices import Device, find_devices
from videogen.opening import open_artifacts, store_limits
from videogen.serving.admission import ServiceLimits
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import EngineConfig, Synthetic
from videogen.serving.making.maker import Maker
from videogen.serving.service import Service
from videogen.serving.telemetry.logs import JobLog
from videogen.serving.telemetry.metrics import ServiceMetrics
from videogen.serving.telemetry.observing import Observers
from videogen.serving.telemetry.overview import Overview
from videogen.serving.telemetry.tracing import Tracing
from videogen.serving.versions.fitting import fits
from videogen.serving.versions.preparing import Prepared, prepare, synthetic
from videogen.serving.versions.served import ServedVersion, Versions
from videogen.serving.versions.swapping import Swapper
from videogen.serving.versions.ungated import prepare_ungated
from videogen.serving.wishes import Wishes
from videogen.settings import Settings
from videogen.store.backends.catalog import open_records
from videogen.store.store import Store
from videogen.warming import BATCHES

STORE_THREADS = 4


@dataclass(frozen=True, slots=True)
class Serving:
    """What `videogen serve` was told. Ports 0 take free ones; `grace_s` is what work in hand gets at the end."""

    model: str = "videogen-tiny"
    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 50051
    ungated: bool = False
    insecure: bool = False
    synthetic: Synthetic | None = None
    grace_s: float = 30.0
    limits: ServiceLimits | None = None
    log_prompts: bool = False
    repeats: bool = False
    """Make, while idle, what will probably be asked for again."""

    @property
    def follows(self) -> bool:
        """Does it follow the champion pointer, rather than serve one version?"""
        return not (self.ungated or self.synthetic or "@" in self.model.removesuffix("@champion"))


@dataclass(frozen=True, slots=True)
class Core:
    """A replica without its faces. `executor` runs the store's calls."""

    serving: Serving
    store: Store
    executor: ThreadPoolExecutor
    metrics: ServiceMetrics
    observers: Observers
    device: Device
    maker: Maker
    swapper: Swapper | None
    service: Service
    prepare: Callable[[str], Prepared]

    async def load(self, tell: Callable[[str], None]) -> ServedVersion:
        """Starts the engine process with what is to be served. Raises EngineError, and what the preparing raises."""
        swapper, call = self.swapper, self.maker.call
        generation = await call(lambda: self.store.champion_generation(swapper.model) if swapper else 0)
        version, to_load = await call(
            lambda: synthetic() if self.serving.synthetic else self.prepare(self.serving.model)
        )
        tell(f"loading {version.label}{' (ungated)' if version.ungated else ''} on {self.device}")
        await self.maker.start(version, to_load)
        if swapper:
            swapper.generation = generation
        return version


@contextmanager
def assembled(settings: Settings, serving: Serving) -> Generator[Core]:
    """A core in which nothing is loaded yet. Raises StoreUnavailable; sends what traces are left when it is left."""
    metrics, overview, tracing = ServiceMetrics(), Overview(), Tracing.from_environment()
    backend = settings.store_url.partition(":")[0]
    with (
        ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="videogen-store") as executor,
        Store(
            metrics.store_metrics.metered(open_records(settings.store_url), backend),
            store_limits(settings),
        ) as store,
    ):
        artifacts, device = open_artifacts(settings), find_devices()[0]
        get = (
            partial(prepare_ungated, artifacts=artifacts, device=device, settings=settings)
            if serving.ungated
            else partial(prepare, store=store, artifacts=artifacts, device=device)
        )
        log = JobLog(with_prompts=serving.log_prompts)
        observers = Observers(metrics, overview, log, *([tracing] if tracing else []))
        holder = f"serve-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        provenance = {"holder": holder, **device.metadata}
        config = _engine_config(settings, serving, device)
        maker = Maker(store, config, Versions(), Changes(), holder, executor, observers, provenance=provenance)
        room = partial(fits, artifacts=artifacts, device=device)
        swapper = Swapper(maker, serving.model.partition("@")[0], get, room) if serving.follows else None
        wishes = Wishes() if serving.repeats else None
        limits = serving.limits or ServiceLimits(price_per_hour=settings.price_per_hour)
        service = Service(maker, limits, observers, swapper, overview, wishes)
        observers.add(service.admission)
        try:
            yield Core(serving, store, executor, metrics, observers, device, maker, swapper, service, get)
        finally:
            if tracing:
                tracing.close()


def _engine_config(settings: Settings, serving: Serving, device: Device) -> EngineConfig:
    is_cpu = device.kind == "cpu"
    return EngineConfig(
        artifacts_url=settings.artifacts_url,
        artifacts_cache=str(settings.home / "artifacts-cache"),
        streams=settings.threads if is_cpu and not serving.synthetic else None,
        batch_max=max(BATCHES),
        lease_folder=None if serving.synthetic else str(settings.device_locks),
        synthetic=serving.synthetic,
    )
