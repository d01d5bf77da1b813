"""A champion for which there is no room beside the old one, and what was accepted for it if it is not served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from tests.serving.forking.changing import gated
from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.errors import EngineUnavailable, StoreUnavailable
from videogen.requests import AcceptedRequest, accept, parse_request
from videogen.resolve import champion_of
from videogen.serving.engine.messages import Synthetic
from videogen.serving.service import Service
from videogen.serving.versions import bringing
from videogen.serving.versions.preparing import synthetic
from videogen.serving.versions.retrying import Patience
from videogen.serving.versions.swapping import Swapper
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import Champion
from videogen.store.servers import Server
from videogen.store.store import Store

ONE, TWO, THREE = synthetic()[0].version_digest, "e" * 64, "d" * 64
WISH = {"prompt": "a red ring"}


@asynccontextmanager
async def without_room(store: Store, name: str = "me", bad: str = TWO) -> AsyncIterator[Service]:
    """A replica of version one, where there is never room for two; version `bad` cannot be loaded.

    It comes to loading that one once `may_load` is set.
    """

    if store.champion("synthetic") is None:
        promote(store, ONE, 1)

    def prepare(reference):
        chosen, (version, to_load) = champion_of(reference, store), synthetic()
        named = {"label": chosen.label, "version_digest": chosen.version_digest, "ungated": False}
        return replace(version, **named), replace(to_load, **named)

    def follow(maker):
        return Swapper(maker, "synthetic", prepare, lambda *_: False, Patience(0.0, 0.0))

    async with served(store, Synthetic(fixed_s=0.005, each_s=0.0), name=name, following=follow) as service:
        gated(service)
        service.maker.reviver.to_load[ONE] = replace(service.maker.reviver.to_load[ONE], ungated=False)
        engine, service.may_load = service.maker.engine, asyncio.Event()
        load = engine.load

        async def load_good(to_load):
            if to_load.version_digest == bad:
                await service.may_load.wait()
                raise EngineUnavailable("it cannot be loaded")
            return await load(to_load)

        engine.load = load_good
        yield service


def promote(store: Store, digest: str, number: int) -> None:
    champion = Champion(digest, f"synthetic@{number}")
    store.promote("synthetic", champion, store.champion_generation("synthetic"))


async def taken_place(service: Service) -> None:
    """Waits until new requests are accepted for version two."""
    await until(lambda: service.versions.current.version_digest == TWO)


async def is_made_by_the_old_one(service: Service, *job_ids: str) -> None:
    async with asyncio.timeout(30):
        ends = [await end_of(service, job_id) for job_id in job_ids]
    assert {(end.status, end.label) for end in ends} == {("completed", "synthetic@1")}


def asked(model: str, digest: str, number: int, prompt: str = "a blue ring") -> AcceptedRequest:
    wish = parse_request({"prompt": prompt, "lane": "interactive", "model": model})
    return accept(wish, synthetic()[0].spec, digest, label=f"synthetic@{number}")


def made_elsewhere(store: Store) -> None:
    """A request for version one that another replica makes, and does not end with."""
    request = store.submit(asked("synthetic", ONE, 1))
    assert store.claim([request.id], "other", 300.0)


def test_a_good_champion_after_a_bad_one_is_served():
    store = Store(MemoryRecordStore())

    async def scenario():
        async with without_room(store) as service:
            service.may_load.set()
            swapper = service.admin.swapper
            promote(store, TWO, 2)
            await swapper.look()
            assert service.versions.current.label == "synthetic@1"
            promote(store, THREE, 3)
            await swapper.look()
            assert service.versions.current.label == "synthetic@3" and not service.readiness.warnings

    run(scenario)


def test_what_was_accepted_while_the_old_one_did_not_end_is_made_by_it(monkeypatch):
    monkeypatch.setattr(bringing, "DRAIN_S", 1.0)
    store = Store(MemoryRecordStore())
    made_elsewhere(store)

    async def scenario():
        async with without_room(store) as service:
            swapper = service.admin.swapper
            promote(store, TWO, 2)
            swap = asyncio.create_task(swapper.look())
            await taken_place(service)
            job = await service.submit(WISH, CALLER)
            await swap
            await is_made_by_the_old_one(service, job.id)
            assert "had work for more than 1 s; not tried again by itself" in service.readiness.warnings[0]
            assert not swapper.retries.is_due

    run(scenario)


class Away(MemoryRecordStore):
    """Where nobody can look at who is live while it `is_away`."""

    is_away = False

    def map_range(self, kind, key, after="", limit=1000):
        if kind == "live" and self.is_away:
            raise StoreUnavailable("it is away")
        return super().map_range(kind, key, after, limit)


def test_a_store_that_goes_away_while_the_old_one_ends_counts_as_a_try(monkeypatch):
    monkeypatch.setattr(bringing, "PATIENCE_S", 3.0)
    records = Away()
    store = Store(records)
    made_elsewhere(store)

    async def scenario():
        async with without_room(store) as service:
            swapper = service.admin.swapper
            promote(store, TWO, 2)
            swap = asyncio.create_task(swapper.look())
            await taken_place(service)
            job = await service.submit(WISH, CALLER)
            records.is_away = True
            await until(lambda: service.versions.current.version_digest == ONE)
            records.is_away = False
            await swap
            await is_made_by_the_old_one(service, job.id)
            assert "it is away; try 1 of 8" in service.readiness.warnings[0]
            assert swapper.generation == store.champion_generation("synthetic"), "the pointer was followed"

    run(scenario)


def test_of_two_replicas_that_fail_the_same_champion_one_takes_what_waits_for_it():
    store = Store(MemoryRecordStore())

    async def scenario():
        async with without_room(store, "one") as one, without_room(store, "two") as two:
            promote(store, TWO, 2)
            swaps = [asyncio.create_task(each.admin.swapper.look()) for each in (one, two)]
            jobs = []
            for number, each in enumerate((one, two)):
                await taken_place(each)
                jobs.append((await each.submit({**WISH, "seed": number}, CALLER)).id)
                each.maker.presence.tell()
                each.may_load.set()
            await asyncio.gather(*swaps)
            await is_made_by_the_old_one(one, *jobs)

    run(scenario)


def test_what_waits_is_taken_once_another_replica_does_not_serve_it_either():
    store = Store(MemoryRecordStore())

    async def scenario():
        async with without_room(store) as service:
            promote(store, TWO, 2)
            swap = asyncio.create_task(service.admin.swapper.look())
            await taken_place(service)
            job = await service.submit(WISH, CALLER)
            store.servers.tell(Server("other", frozenset({TWO}), 1.0))
            service.may_load.set()
            await until(lambda: service.versions.current.version_digest == ONE)
            await asyncio.sleep(1.0)
            assert store.request(job.id).state == "queued", "the other one may serve it"
            assert service.readiness.ready, "the old one is there, whoever makes what waits"
            store.servers.leave("other")
            await swap
            await is_made_by_the_old_one(service, job.id)

    run(scenario)


def test_those_who_name_the_failed_one_keep_nobody_behind_them_waiting(monkeypatch):
    monkeypatch.setattr(bringing, "PAGE", 2)
    store = Store(MemoryRecordStore())

    async def scenario():
        async with without_room(store) as service:
            promote(store, TWO, 2)
            swap = asyncio.create_task(service.admin.swapper.look())
            await taken_place(service)
            named = [store.submit(asked("synthetic@2", TWO, 2, f"ring {number}")) for number in range(5)]
            jobs = [(await service.submit({**WISH, "seed": seed}, CALLER)).id for seed in range(5)]
            service.may_load.set()
            await swap
            await is_made_by_the_old_one(service, *jobs)
            assert {store.request(one.id).state for one in named} == {"queued"}

    run(scenario)
