"""Videos that are made before they are asked for again: a real engine process, a store in memory."""

import asyncio
import dataclasses
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.serving.engine.messages import Synthetic
from videogen.serving.repeats import Repeats
from videogen.serving.service import Service
from videogen.serving.wishes import Wishes
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

AGAIN = {"prompt": "a red ring", "seed": 7}
QUICK = Synthetic(fixed_s=0.005)


@asynccontextmanager
async def repeating(device: Synthetic, *, gated: bool = True) -> AsyncGenerator[tuple[Service, Repeats]]:
    wishes = Wishes()
    async with served(Store(MemoryRecordStore()), device, wishes=wishes) as service:
        repeats = Repeats(service, wishes, quiet_s=0.2, look_s=0.05)
        current = service.versions.current
        assert current is not None
        service.versions.admit(dataclasses.replace(current, ungated=not gated))
        task = asyncio.create_task(repeats.run())
        try:
            yield service, repeats
        finally:
            task.cancel()


async def asked_twice_then_another_version(service: Service) -> None:
    for _ in range(2):
        assert (await end_of(service, (await service.submit(AGAIN, CALLER)).id)).status == "completed"
    current = service.versions.current
    assert current is not None
    service.versions.drop(current.version_digest)
    to_load = service.maker.reviver.to_load[current.version_digest]
    new = dataclasses.replace(current, version_digest="f" * 64, label="synthetic@2")
    await service.maker.reviver.load(dataclasses.replace(to_load, version_digest="f" * 64, label=new.label))
    service.versions.admit(new)


def test_what_is_asked_again_and_again_is_made_for_a_new_version_before_it_is_asked_for():
    async def test() -> None:
        async with repeating(QUICK) as (service, repeats):
            await service.submit({"prompt": "only once", "seed": 1}, CALLER)
            await asked_twice_then_another_version(service)
            await until(lambda: repeats.made == 1)
            await asyncio.sleep(1.0)
            assert repeats.made == 1, "what is there is not made again"
            job = await service.submit(AGAIN, CALLER)
            assert job.usage is not None
            assert (job.usage.cache, job.label) == ("hit", "synthetic@2")
            listed = await service.list(CALLER)
            assert len(listed.data) == 4, "what was made ahead is not among what they asked for"

    run(test)


def test_a_version_that_passed_no_gates_makes_none():
    async def test() -> None:
        async with repeating(QUICK, gated=False) as (service, repeats):
            for _ in range(3):
                await end_of(service, (await service.submit(AGAIN, CALLER)).id)
            await asyncio.sleep(1.5)
            assert repeats.made == 0
            assert len(service.store.requests()) == 3

    run(test)


def test_it_yields_at_once_to_what_is_asked():
    async def test() -> None:
        async with repeating(Synthetic(fixed_s=0.2, each_s=0.0)) as (service, repeats):
            await asked_twice_then_another_version(service)
            await until(lambda: service.maker.engine.busy)
            (making,) = service.maker.engine.busy
            job = await service.submit({"prompt": "something else"}, CALLER)
            assert (await end_of(service, job.id)).status == "completed"
            assert service.store.request(making).state == "cancelled"
            await until(lambda: repeats.made == 1)

    run(test)
