"""Puts the service together and runs it: store, engine process, core, and its faces on one event loop."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from videogen.devices import Device, find_devices
from videogen.errors import InvalidRequest
from videogen.opening import open_artifacts
from videogen.serving.access import Access, check_bind
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import EngineConfig, Synthetic
from videogen.serving.limits import Limits
from videogen.serving.logs import JobLog
from videogen.serving.making import Maker
from videogen.serving.metrics import ServiceMetrics
from videogen.serving.observing import Observer, Observers
from videogen.serving.outgoing import Outgoing
from videogen.serving.overview import Overview
from videogen.serving.preparing import prepare, synthetic
from videogen.serving.service import Service, ServiceLimits
from videogen.serving.swapping import Swapper
from videogen.serving.tracing import Tracing
from videogen.serving.versions import Versions
from videogen.serving.webhooks import WebhookSender
from videogen.settings import Settings
from videogen.store.backends.catalog import open_records
from videogen.store.records import StoreLimits
from videogen.store.store import Store
from videogen.store.webhooks import Webhooks

logger = logging.getLogger(__name__)
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

    @property
    def follows(self) -> bool:
        """Does it follow the champion pointer, rather than serve one version?"""
        return not (self.ungated or self.synthetic or "@" in self.model.removesuffix("@champion"))


async def serve(settings: Settings, serving: Serving, tell: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then finishes or hands back what is in hand.

    `tell` gets lines for people. Raises InvalidRequest, UnsafeBind, EngineError or StoreUnavailable if it cannot start.
    """
    import uvicorn

    from videogen.serving.grpc.server import GrpcServer
    from videogen.serving.http.app import create_app
    from videogen.serving.http.context import CallContext

    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    listening = _listen(serving.host, serving.http_port)
    metrics, overview = ServiceMetrics(), Overview()
    backend = settings.store_url.partition(":")[0]
    with (
        listening,
        ThreadPoolExecutor(STORE_THREADS, thread_name_prefix="videogen-store") as executor,
        Store(
            metrics.store_metrics.metered(open_records(settings.store_url), backend),
            StoreLimits(local_cache_bytes=settings.store_cache_bytes),
        ) as store,
    ):
        check_bind(serving.host, store.api_keys.were_made(), serving.insecure)
        access = Access(store.api_keys, insecure=serving.insecure, executor=executor)
        artifacts, device = open_artifacts(settings), find_devices()[0]
        get = partial(prepare, store=store, artifacts=artifacts, device=device, ungated=serving.ungated)
        tracing = Tracing.from_environment()
        sent = [tracing] if tracing else []
        observers = Observers(metrics, overview, JobLog(with_prompts=serving.log_prompts), *sent)
        maker = _maker(settings, serving, store, executor, observers, device)
        swapper = Swapper(maker, serving.model.partition("@")[0], get) if serving.follows else None
        service = Service(maker, serving.limits, observers, swapper, overview)
        generation = store.champion_generation(swapper.model) if swapper else 0
        version, to_load = await maker.call(lambda: synthetic() if serving.synthetic else get(serving.model))
        tell(f"loading {version.label}{' (ungated)' if version.ungated else ''} on {device}")
        await maker.start(version, to_load)
        if swapper:
            swapper.generation = generation
        outgoing = Outgoing(settings.outgoing_allow)
        webhooks = WebhookSender(
            Webhooks(store.records), service, outgoing, lambda key_id: settings.webhook_secret, executor
        )
        limits = Limits(store.rate_limits, access, settings.serving_limits, executor, observers)
        app = create_app(service, access, limits, webhooks, lambda: _exposition(metrics, store))
        config = uvicorn.Config(
            CallContext(app), log_level="warning", access_log=False, lifespan="off", timeout_keep_alive=65
        )
        http, grpc = uvicorn.Server(config), GrpcServer(service, access, limits, serving.host, serving.grpc_port)
        http.capture_signals = contextlib.nullcontext  # ty: ignore[invalid-assignment]  # work in hand ends first
        tasks = [asyncio.create_task(http.serve([listening])), asyncio.create_task(webhooks.run())]
        tasks += [asyncio.create_task(swapper.follow())] if swapper else []
        try:
            await grpc.start()
            tell(f"serving {version.label}{' (ungated: it has passed no gates)' if version.ungated else ''}")
            tell(f"  HTTP  http://{serving.host}:{listening.getsockname()[1]}/v1/videos, its page at /docs")
            tell(f"  gRPC  {serving.host}:{grpc.port}")
            await ended.wait()
            tell("ending: work in hand is finished or handed back")
        finally:
            await service.stop(serving.grace_s)
            http.should_exit = True
            await grpc.stop(1.0)
            for task in tasks[1:]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await outgoing.close()
            if tracing:
                await asyncio.to_thread(tracing.close)


def _maker(
    settings: Settings,
    serving: Serving,
    store: Store,
    executor: ThreadPoolExecutor,
    observer: Observer,
    device: Device,
) -> Maker:
    config = EngineConfig(
        artifacts_url=settings.artifacts_url,
        artifacts_cache=str(settings.home / "artifacts-cache"),
        streams=None,
        lease_folder=None if serving.synthetic else str(settings.home / "devices"),
        synthetic=serving.synthetic,
    )
    holder = f"serve-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
    provenance = {"holder": holder, **device.metadata}
    return Maker(store, config, Versions(), Changes(), holder, executor, observer, provenance=provenance)


def _exposition(metrics: ServiceMetrics, store: Store) -> tuple[bytes, str]:
    from prometheus_client import CONTENT_TYPE_LATEST

    return metrics.exposition(store).encode(), CONTENT_TYPE_LATEST


def _listen(host: str, port: int) -> socket.socket:
    """Raises InvalidRequest if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise InvalidRequest("--http-port", port, f"a port of {host} that is free ({error.strerror})") from error
    listening.listen(1024)
    return listening
