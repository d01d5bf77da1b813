"""A replica says that it should be started anew exactly when it can do no more good: real processes and real faults."""

import asyncio
import os
import signal

import httpx

from tests.serving.http.serving import running
from tests.serving.http.test_webhooks import until as until_holds
from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.serving.engine.messages import Synthetic
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

QUICK = Synthetic(fixed_s=0.005, each_s=0.0)


def killed(service) -> None:
    os.kill(service.maker.engine.pid, signal.SIGKILL)


def test_an_engine_process_that_dies_and_a_store_that_is_away_pass():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), QUICK) as service:
            killed(service)
            await until(lambda: not service.readiness.ready)
            assert service.readiness.live
            await until(lambda: service.readiness.ready)
            service.readiness.away = "the store is away"
            assert service.readiness.live and not service.readiness.ready

    run(test)


def test_a_fault_that_ends_the_revival_of_the_engine_process_ends_the_replicas_life():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), QUICK) as service:

            async def start() -> None:
                raise RuntimeError("nobody foresaw this")

            service.maker.engine.start = start
            killed(service)
            await until(lambda: not service.readiness.live)
            assert any(
                "the revival of the engine process has ended: nobody" in why for why in service.readiness.reasons
            )

    run(test)


def test_a_task_that_was_to_last_and_ended_ends_the_replicas_life_over_http():
    with running() as server, httpx.Client(base_url=server.url) as http:
        assert http.get("/healthz").json() == {"live": True}

        async def lost() -> None:
            raise asyncio.CancelledError

        server.loop.call_soon_threadsafe(lambda: server.service.maker.tasks.last(lost, "claiming"))
        answer = until_holds(lambda: (one := http.get("/healthz")).status_code == 503 and one)
        assert answer.json() == {"live": False, "reasons": ["claiming has ended: CancelledError"]}
        assert http.get("/readyz").status_code == 503


def test_a_replica_that_is_told_to_end_lives_until_then():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), QUICK) as service:
            job = await service.submit({"prompt": "a red ring"}, CALLER)
            assert (await end_of(service, job.id)).status == "completed"
            await service.stop(5.0)
            assert service.readiness.live

    run(test)
