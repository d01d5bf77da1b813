"""What is made for several is as urgent as the most urgent of them, also for the successor of a process that died."""

import os
import signal

import pytest

from tests.serving.forking.changing import DEVICE, gated
from tests.serving.in_process import CALLER, run, served, until
from videogen.serving.engine.messages import EngineJob
from videogen.serving.making.in_hand import Making
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

FIRST = {"prompt": "a slow red ring", "num_inference_steps": 30, "seed": 1}
LONG = {"prompt": "a red ring", "num_inference_steps": 30, "seed": 0, "priority": "batch"}


def given_to(service) -> list[EngineJob]:
    """Jobs that the engine process is given from now on."""
    run, found = service.work.engine.run, list[EngineJob]()

    def give(job: EngineJob) -> None:
        found.append(job)
        run(job)

    service.work.engine.run = give
    return found


@pytest.mark.parametrize("joins", ["here", "elsewhere"])
def test_a_successor_is_told_of_the_most_urgent_who_waits(joins):
    store = Store(MemoryRecordStore())

    async def scenario():
        async with served(store, DEVICE, Making(restart_s=(0.05, 1.0))) as service:
            gated(service)
            service.work.engine.pause()
            made = [await service.submit(one, CALLER) for one in (FIRST, LONG)]
            await until(lambda: service.work.held(made[1].id) is not None)
            urgent = {**LONG, "priority": "interactive", "deadline": 50.0}
            if joins == "here":
                await service.submit(urgent, CALLER)
            else:
                store.submit(service.versions.accept(urgent, CALLER.tenant))
            given = given_to(service)
            os.kill(service.work.engine.pid, signal.SIGKILL)
            await until(lambda: len(given) == 2)
            found = next(job for job in given if job.id == made[1].id)
            assert found.priority == "interactive" and 0 < found.deadline_in <= 50.0

    run(scenario)


def test_who_joins_makes_it_as_urgent_at_once():
    async def scenario():
        async with served(Store(MemoryRecordStore()), DEVICE) as service:
            gated(service)
            first, told = await service.submit(LONG, CALLER), []
            service.work.engine.change = lambda *given, **how: told.append((*given, how))
            await service.submit({**LONG, "priority": "standard", "deadline": 50.0}, CALLER)
            await service.submit({**LONG, "priority": "interactive"}, CALLER)
            assert [(job_id, how["priority"]) for job_id, how in told] == [
                (first.id, "standard"),
                (first.id, "interactive"),
            ]
            assert all(0 < how["deadline_in"] <= 50.0 for _, how in told)

    run(scenario)
