"""Runs the service: its faces over its core, on one event loop, until it is told to end."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from videogen.errors import InvalidRequest
from videogen.memory import settle
from videogen.serving.access import Access, check_bind
from videogen.serving.assembly import Core, Serving, assembled
from videogen.serving.ending import Ending
from videogen.serving.limits import Limits
from videogen.serving.outgoing import Outgoing
from videogen.serving.repeats import Repeats
from videogen.serving.store_watch import watch_store
from videogen.serving.webhooks import WebhookSender
from videogen.settings import Settings

ENDING_S = 2
"""For calls that still go on once work in hand is finished or handed back: who watches that may watch on elsewhere."""
OPEN_FILES = 8_192
"""More than the connections of both faces, engine and store need at most."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where it listens."""

    http: int
    grpc: int


async def serve(settings: Settings, serving: Serving, tell: Callable[[str], None]) -> None:
    """Serves until SIGTERM or SIGINT, then finishes or hands back what is in hand; a second one ends it at once.

    `tell` gets lines for people. Raises InvalidRequest, UnsafeBind, EngineError or StoreUnavailable if it cannot start.
    """
    _allow_files()
    ending = Ending()
    with (
        ending.heard(),
        _listen(serving.host, serving.http_port) as listening,
        assembled(settings, serving) as core,
    ):
        ending.at_once = core.maker.engine.kill
        _bound(serving.host, serving.grpc_port, "--grpc-port").close()  # gRPC takes it when all is loaded
        check_bind(serving.host, core.store.api_keys.were_made(), serving.insecure)
        async with _faces(settings, core, listening) as open_all:
            version = await ending.unless_asked(core.load(tell))
            if version is None:
                tell("ended before it was loaded")
                return
            ports = await open_all()
            tell(f"serving {version.label}{' (ungated: it has passed no gates)' if version.ungated else ''}")
            tell(f"  HTTP  http://{serving.host}:{ports.http}/v1/videos, its page at /docs")
            tell(f"  gRPC  {serving.host}:{ports.grpc}")
            settle()
            await ending.asked.wait()
            within = f"within {serving.grace_s:g} s (--grace)"
            tell(f"ending: work in hand is finished {within} or handed back; Ctrl-C once more ends it at once")


@contextlib.asynccontextmanager
async def _faces(
    settings: Settings, core: Core, listening: socket.socket
) -> AsyncGenerator[Callable[[], Awaitable[Ports]]]:
    """HTTP, which tells how the loading goes meanwhile; what it gives begins gRPC, webhooks and all else, once that is
    done. When it is left they end, once work in hand is finished or handed back."""
    import uvicorn

    from videogen.serving.grpc.server import GrpcServer
    from videogen.serving.http.app import create_app
    from videogen.serving.http.connections import BoundedConnection
    from videogen.serving.http.context import CallContext

    serving, service, store, executor = core.serving, core.service, core.store, core.executor
    access = Access(store.api_keys, insecure=serving.insecure, executor=service.calls)
    limits = Limits(store.rate_limits, access, settings.serving_limits, service.calls, core.observers)
    outgoing = Outgoing(settings.outgoing_allow)
    webhooks = WebhookSender(store.webhooks, service, outgoing, lambda key_id: settings.webhook_secret, executor)
    app = create_app(service, access, limits, webhooks, lambda: _exposition(core))
    config = uvicorn.Config(
        CallContext(app),
        http=BoundedConnection,
        ws="none",
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_keep_alive=65,
        timeout_graceful_shutdown=ENDING_S,
    )
    http, grpc = uvicorn.Server(config), GrpcServer(service, access, limits, serving.host, serving.grpc_port)
    http.capture_signals = contextlib.nullcontext  # ty: ignore[invalid-assignment]  # work in hand ends first
    answering = asyncio.create_task(http.serve([listening]))
    core.maker.tasks.last(lambda: watch_store(store, service.readiness), "watching the store")

    async def open_all() -> Ports:
        works: dict[str, Callable[[], Awaitable[None]]] = {"webhooks": webhooks.run}
        works |= {"following the champion": core.swapper.follow} if core.swapper else {}
        if service.wishes is not None:
            works["making ahead"] = Repeats(service, service.wishes).run
        for name, work in works.items():
            core.maker.tasks.last(work, name)
        await grpc.start()
        return Ports(listening.getsockname()[1], grpc.port)

    try:
        yield open_all
    finally:
        await service.stop(serving.grace_s)
        http.should_exit = True
        await grpc.stop(ENDING_S)
        await asyncio.gather(answering, return_exceptions=True)
        await outgoing.close()


def _exposition(core: Core) -> tuple[bytes, str]:
    from prometheus_client import CONTENT_TYPE_LATEST

    return core.metrics.exposition(core.store).encode(), CONTENT_TYPE_LATEST


def _allow_files() -> None:
    """Lets this process open as many files as it may need, as far as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != soft < OPEN_FILES:
        most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(host: str, port: int) -> socket.socket:
    """Raises InvalidRequest if the port is taken."""
    listening = _bound(host, port, "--http-port")
    listening.listen(1024)
    return listening


def _bound(host: str, port: int, option: str) -> socket.socket:
    """Raises InvalidRequest if the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Without the protocol's number asyncio sets no TCP_NODELAY, and every answer in two parts waits 40 ms for an ACK.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise InvalidRequest(option, port, f"a port of {host} that is free ({error.strerror})") from error
    return bound
