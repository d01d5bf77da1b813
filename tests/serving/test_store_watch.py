"""Whether the store answers is found out although all other threads of the process wait for something."""

import asyncio
import threading

from tests.serving.in_process import run, served, until
from videogen.errors import StoreUnavailable
from videogen.serving.engine.messages import Synthetic
from videogen.serving.store_watch import watch_store
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store


class Away(MemoryRecordStore):
    """Does not answer while it is away."""

    away = False

    def now(self) -> float:
        if self.away:
            raise StoreUnavailable("no answer")
        return super().now()


def test_a_store_that_goes_and_comes_is_noticed_although_all_other_threads_wait():
    async def test() -> None:
        records, gate = Away(), threading.Event()
        async with served(store := Store(records), Synthetic()) as service:
            watching = asyncio.ensure_future(watch_store(store, service.readiness))
            waiting = [asyncio.ensure_future(asyncio.to_thread(gate.wait, 50)) for _ in range(40)]
            try:
                records.away = True
                await until(lambda: service.readiness.away)
                records.away = False
                await until(lambda: service.readiness.away is None)
                assert not any(one.done() for one in waiting)
            finally:
                gate.set()
                watching.cancel()

    run(test)
