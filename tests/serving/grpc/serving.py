"""gRPC over the service as `tests.serving.in_process` has it, on an event loop in a thread of its own."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.serving import in_process
from videogen.errors import StoreUnavailable
from videogen.serving.access import Access
from videogen.serving.engine.messages import Synthetic
from videogen.serving.grpc.server import MOST_CALLS, GrpcServer
from videogen.serving.limits import Limits
from videogen.serving.service import Service
from videogen.settings import ServingLimits
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

T = TypeVar("T")
QUICK = Synthetic(fixed_s=0.002, each_s=0.0)
SLOW = Synthetic(fixed_s=0.2, each_s=0.0)


class Failing(MemoryRecordStore):
    """One whose writes raise `fault` while it is set."""

    fault: Exception | None = None

    def write_many(self, writes):
        if self.fault is not None:
            raise self.fault
        return super().write_many(writes)

    @contextmanager
    def failing(self, fault: Exception | None = None) -> Iterator[None]:
        self.fault = fault or StoreUnavailable("it is away")
        try:
            yield
        finally:
            self.fault = None


@dataclass
class Served:
    service: Service
    server: GrpcServer
    records: Failing
    portal: BlockingPortal

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    @property
    def store(self) -> Store:
        return self.service.store

    def run(self, call: Callable[..., Any], *given: Any) -> Any:
        """What a coroutine function gives on the service's loop."""
        return self.portal.call(call, *given)


@asynccontextmanager
async def _serving(
    device: Synthetic, records: Failing, limits: ServingLimits, port: int, most_calls: int, options: dict[str, Any]
) -> AsyncIterator[tuple[Service, GrpcServer]]:
    store = Store(records)
    async with in_process.served(store, device, **options) as service:
        access = Access(store.api_keys)
        bounds = Limits(store.rate_limits, access, limits)
        server = GrpcServer(service, access, bounds, port=port, most_calls=most_calls)
        await server.start()
        try:
            yield service, server
        finally:
            await server.stop(0)


@contextmanager
def serving(
    device: Synthetic = QUICK,
    records: Failing | None = None,
    limits: ServingLimits | None = None,
    port: int = 0,
    most_calls: int = MOST_CALLS,
    **options: Any,
) -> Iterator[Served]:
    """`options` as `in_process.served` has them."""
    records = records or Failing()
    with start_blocking_portal() as portal:
        running = _serving(device, records, limits or ServingLimits(), port, most_calls, options)
        with portal.wrap_async_context_manager(running) as (service, server):
            yield Served(service, server, records, portal)
