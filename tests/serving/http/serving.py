"""A real uvicorn on loopback with the HTTP face, in a thread of its own, over a device without networks."""

import asyncio
import threading
from contextlib import contextmanager, suppress

import uvicorn

from tests.serving.in_process import served
from videogen.serving.access import Access
from videogen.serving.engine.messages import Synthetic
from videogen.serving.http.app import create_app
from videogen.serving.http.connections import BoundedConnection
from videogen.serving.http.context import CallContext
from videogen.serving.limits import Limits
from videogen.serving.outgoing import Outgoing
from videogen.serving.webhooks import WebhookSender
from videogen.settings import ServingLimits
from videogen.store.api_keys import ApiKeys
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimits
from videogen.store.store import Store
from videogen.store.webhooks import Webhooks

SECRET = "whsec_c2lnbiBtZQ=="
QUICK, SLOW = Synthetic(fixed_s=0.005, each_s=0.0), Synthetic(fixed_s=0.5, each_s=0.0)
SECONDS = 60.0


class Running:
    """`url` of the server, and what stands behind it."""

    def __init__(self, records, limits, device, pauses_s, secret, connection):
        self.records, self.limits, self.device, self.pauses_s, self.secret = records, limits, device, pauses_s, secret
        self.connection, self.exposed = connection, lambda: (b"up 1\n", "text/plain; version=0.0.4")
        self.keys, self.webhooks, self.started, self.port = ApiKeys(records), Webhooks(records), threading.Event(), 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def expose(self):
        return self.exposed()

    async def serve(self):
        async with served(Store(self.records), self.device) as service:
            self.service, self.loop = service, asyncio.get_running_loop()
            await self._serve(service)

    async def _serve(self, service):
        access = Access(self.keys, executor=service.calls)
        outgoing = Outgoing(frozenset({"127.0.0.1"}))
        sender = WebhookSender(self.webhooks, service, outgoing, lambda _: self.secret, pauses_s=self.pauses_s)
        limits = Limits(RateLimits(self.records), access, self.limits, service.calls)
        app = create_app(service, access, limits, sender, self.expose)
        app = CallContext(app)
        config = uvicorn.Config(app, "127.0.0.1", 0, http=self.connection, log_level="warning", lifespan="off")
        self.server = uvicorn.Server(config)
        calling = asyncio.ensure_future(sender.run())
        serving = asyncio.ensure_future(self.server.serve())
        while not self.server.started:
            await asyncio.sleep(0.01)
        self.port = self.server.servers[0].sockets[0].getsockname()[1]
        self.started.set()
        await serving
        calling.cancel()
        with suppress(asyncio.CancelledError):
            await calling
        await outgoing.close()


@contextmanager
def running(records=None, limits=None, device=QUICK, pauses_s=(0.1, 0.1), secret=SECRET, connection=BoundedConnection):
    run = Running(records or MemoryRecordStore(), limits or ServingLimits(), device, pauses_s, secret, connection)
    thread = threading.Thread(target=lambda: asyncio.run(run.serve()))
    thread.start()
    assert run.started.wait(SECONDS)
    try:
        yield run
    finally:
        run.server.should_exit = True
        thread.join(SECONDS)
