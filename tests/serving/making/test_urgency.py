"""What is made for several is as urgent as the most urgent of them, also for the successor of a process that died."""

import os
import signal
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.serving.forking.changing import DEVICE, gated
from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.serving.engine.messages import EngineJob
from videogen.serving.jobs import VideoJob
from videogen.serving.making.in_hand import Making, left
from videogen.serving.service import Service
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


@asynccontextmanager
async def in_hand(store: Store, wish: Mapping[str, Any] = LONG) -> AsyncGenerator[tuple[Service, VideoJob]]:
    """A service that holds a job of which no step is taken."""
    async with served(store, DEVICE) as service:
        gated(service)
        service.work.engine.pause()
        first = await service.submit(wish, CALLER)
        await until(lambda: service.work.held(first.id) is not None)
        yield service, first


def told_to(service) -> list[tuple[str, float | None]]:
    """Priorities and deadlines that the engine process is told of from now on."""
    change, told = service.work.engine.change, list[tuple[str, float | None]]()

    def tell(job_id, *, priority, deadline_in):
        told.append((priority, deadline_in))
        change(job_id, priority=priority, deadline_in=deadline_in)

    service.work.engine.change = tell
    return told


def test_it_is_as_urgent_as_those_who_wait_still():
    async def scenario():
        async with in_hand(Store(MemoryRecordStore())) as (service, _):
            told = told_to(service)
            joined = await service.submit({**LONG, "priority": "interactive", "deadline": 50.0}, CALLER)
            assert told.pop()[0] == "interactive"
            await service.cancel(joined.id, CALLER)
            await until(lambda: told)
            assert told.pop() == ("batch", None)

    run(scenario)


def test_a_deadline_that_has_passed_is_nobody_elses():
    store = Store(MemoryRecordStore())

    async def scenario():
        async with in_hand(store) as (service, first):
            held, told = service.work.held(first.id), told_to(service)
            hurried = service.versions.accept({**LONG, "deadline": 2.0}, CALLER.tenant)
            store.submit(hurried)
            service.work.joined(held.claim.generation, hurried)
            service.maker.deadlines.add(hurried)
            assert 0 < told.pop()[1] <= 2.0
            await end_of(service, hurried.id)
            await until(lambda: told)
            assert told.pop() == ("batch", None)
            late = service.versions.accept({**LONG, "deadline": 0.001}, CALLER.tenant)
            await until(lambda: left(late) == 0.0)
            service.work.joined(held.claim.generation, late)
            await service.submit({**LONG, "priority": "standard"}, CALLER)
            assert told == [("standard", None)]

    run(scenario)


def test_who_joins_without_more_haste_is_told_to_nobody():
    async def scenario():
        async with in_hand(Store(MemoryRecordStore()), {**LONG, "deadline": 40.0}) as (service, first):
            told = told_to(service)
            for deadline in (None, 50.0, 45.0):
                await service.submit({**LONG, "deadline": deadline}, CALLER)
            assert not told and len(service.work.held(first.id).asked) == 4

    run(scenario)


def test_however_many_leave_at_once_who_waits_is_looked_at_twice_at_most(monkeypatch):
    store = Store(MemoryRecordStore())

    async def scenario():
        async with in_hand(store) as (service, first):
            generation, awaiting, looks = service.work.held(first.id).claim.generation, store.awaiting, []
            monkeypatch.setattr(store, "awaiting", lambda given: looks.append(given) or awaiting(given))
            told = told_to(service)
            for _ in range(20):
                service.maker.forget_generation(generation)
            await until(lambda: len(told) == 2)
            assert looks == [generation] * 2

    run(scenario)
