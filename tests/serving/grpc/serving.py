"""A gRPC server on loopback whose core lives in memory, on an event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.serving.grpc.core import MemoryCore
from videogen.errors import InvalidRequest, RateLimited, Unauthenticated
from videogen.serving.grpc.server import MOST_CALLS, GrpcServer
from videogen.serving.jobs import Caller

T = TypeVar("T")
CALLERS = {
    None: Caller("default", None, frozenset({"user", "admin"})),
    "Bearer alice": Caller("alice", "a", frozenset({"user"})),
    "Bearer bob": Caller("bob", "b", frozenset({"user"})),
}


class Keys:
    """Access by a fixed table of headers."""

    async def authenticate(self, authorization: str | None, peer_is_loopback: bool) -> Caller:
        if authorization not in CALLERS or not peer_is_loopback:
            raise Unauthenticated("the API key is unknown or revoked")
        return CALLERS[authorization]


class Bounded:
    """Limits that a test reaches: 200 streams of a tenant, short prompts, and a tenant that has used up its rate."""

    def __init__(self) -> None:
        self.streams = 0

    async def take(self, caller: Caller) -> None:
        if caller.tenant == "bob":
            raise RateLimited("tenant bob may ask 1 time a minute", 60.0)

    def check_prompt(self, prompt: str) -> None:
        if len(prompt) > 1_000:
            raise InvalidRequest("prompt", prompt, "at most 1,000 characters")

    @contextmanager
    def stream(self, caller: Caller) -> Iterator[None]:
        if self.streams >= 200:
            raise RateLimited("at most 200 streams at once for a tenant", 1.0)
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


@dataclass
class Served:
    core: MemoryCore
    server: GrpcServer
    loop: asyncio.AbstractEventLoop

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)


@contextmanager
def serving(core: MemoryCore | None = None, port: int = 0, most_calls: int = MOST_CALLS) -> Iterator[Served]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    core = core or MemoryCore()

    async def start() -> GrpcServer:
        server = GrpcServer(core, Keys(), Bounded(), port=port, most_calls=most_calls)
        await server.start()
        return server

    served = Served(core, asyncio.run_coroutine_threadsafe(start(), loop).result(30), loop)
    try:
        yield served
    finally:
        served.run(served.server.stop(0))
        served.run(core.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
