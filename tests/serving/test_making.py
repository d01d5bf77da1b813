"""What becomes of work when the engine process dies, and dies again while it comes up: real processes, a real store."""

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.serving.in_process import CALLER, Heard, end_of, run, served, until
from videogen.errors import EngineError, StoreUnavailable
from videogen.requests import UNGATED, accept, parse_request
from videogen.serving.changes import Changes
from videogen.serving.engine.messages import (
    Died,
    EngineConfig,
    EngineJob,
    Loaded,
    Progress,
    Stats,
    Synthetic,
    VersionToLoad,
)
from videogen.serving.engine_process import EngineProcess
from videogen.serving.making.in_hand import Making
from videogen.serving.making.maker import Maker
from videogen.serving.making.reviving import Reviver
from videogen.serving.making.suspects import MOST_DEATHS
from videogen.serving.service import Service
from videogen.serving.versions.preparing import synthetic
from videogen.serving.versions.served import Versions
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import StoreLimits
from videogen.store.store import Store

POISON = "a poisonous ring"


def engines() -> set[int]:
    """The pids of this process's engine processes."""
    children = Path("/proc/self/task").glob("*/children")
    pids = {int(pid) for path in children for pid in path.read_text().split()}
    return {pid for pid in pids if "serving.engine" in Path(f"/proc/{pid}/cmdline").read_text()}


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts processes in Linux's /proc")
def test_an_engine_process_that_dies_while_it_comes_up_has_one_successor_and_no_job_is_lost(tmp_path):
    config = EngineConfig(synthetic=Synthetic(load_s=1.0))

    async def run(store: Store, executor: ThreadPoolExecutor) -> None:
        maker = Maker(store, config, Versions(), Changes(), "me", executor)
        service = Service(maker)
        await maker.start(*synthetic())
        ids = [(await service.submit({"prompt": "a red ring", "seed": n}, CALLER)).id for n in range(6)]
        first = maker.engine.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: maker.engine.alive and maker.engine.pid != first)
        assert not service.readiness.ready
        started = {first, maker.engine.pid}
        os.kill(engines().pop(), signal.SIGKILL)
        ids.append((await service.submit({"prompt": "a red ring", "seed": 99}, CALLER)).id)
        await until(lambda: started.add(maker.engine.pid) or service.readiness.ready)
        for job_id in ids:
            ends = [job async for job in service.watch(job_id, CALLER)]
            assert ends[-1].status == "completed", ends[-1]
        assert maker.reviver.restarts == 1 and engines() == {maker.engine.pid}
        assert len(started - {None}) == 3, "two successors ended each other"
        await service.stop(5.0)

    with ThreadPoolExecutor(4) as executor, Store.open(f"embedded:{tmp_path / 'store'}") as store:
        asyncio.run(run(store, executor))


def given_to(maker: Maker, killed_by: str | None = None) -> list[EngineJob]:
    """What the engine process is given from now on; it is killed as soon as it gets `killed_by`, before it can tell."""
    run, found = maker.engine.run, list[EngineJob]()

    def give(job: EngineJob) -> None:
        found.append(job)
        run(job)
        if job.request["request"]["prompt"] == killed_by and maker.engine.pid is not None:
            os.kill(maker.engine.pid, signal.SIGKILL)

    maker.engine.run = give
    return found


def test_a_job_that_kills_the_engine_process_before_that_tells_of_it_fails_alone():
    heard, making = Heard(), Making(restart_s=(0.05, 0.1))
    store = Store(MemoryRecordStore(), StoreLimits(first_retry=0.1))

    async def test() -> None:
        async with served(store, Synthetic(fixed_s=0.05), making, observer=heard) as service:
            given = given_to(service.maker, POISON)
            fields = [{"prompt": "a red ring", "seed": n} for n in range(5)]
            fields.insert(2, {"prompt": POISON})
            jobs = [await service.submit(one, CALLER) for one in fields]
            ends = [await end_of(service, job.id) for job in jobs]
            poisoned = ends.pop(2)
            assert [end.status for end in ends] == ["completed"] * 5, "what it was with is made"
            assert poisoned.status == "failed"
            assert "the engine process ended" in poisoned.error.message
            deaths = sum(job.request["request"]["prompt"] == POISON for job in given)
            assert deaths <= store.limits.max_attempts * (MOST_DEATHS + 1)
            assert heard.outcomes == {job.id: "completed" for job in ends} | {poisoned.id: "failed"}
            await until(lambda: service.readiness.ready)

    run(test)


def test_a_job_that_is_handed_over_once_more_has_what_is_left_of_its_deadline():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic(), Making(restart_s=(0.05, 0.1))) as service:
            given = given_to(service.maker)
            service.maker.engine.pause()
            began = time.monotonic()
            await service.submit({"prompt": "a red ring", "deadline": 50}, CALLER)
            await until(lambda: given)
            await asyncio.sleep(0.5)
            os.kill(service.maker.engine.pid, signal.SIGKILL)
            await until(lambda: len(given) == 2)
            first, second = (job.deadline_in for job in given)
            assert first <= 50
            assert second <= 50 - 0.5
            assert second == pytest.approx(50 - (time.monotonic() - began), abs=0.5)

    run(test)


@pytest.mark.parametrize("waits", ["in the engine", "in the store"])
def test_a_job_whose_deadline_passes_ends_as_expired_and_its_callers_and_observers_are_told(waits):
    heard, store = Heard(), Store(MemoryRecordStore())

    async def test() -> None:
        async with served(store, Synthetic(fixed_s=0.01), observer=heard) as service:
            service.maker.engine.pause()
            if waits == "in the store":
                service.maker.work.down = "nothing is taken"
            job = await service.submit({"prompt": "a red ring", "deadline": 1.0}, CALLER)
            assert bool(service.maker.work.in_hand) == (waits == "in the engine")
            end = await end_of(service, job.id)
            assert (end.state, end.error.code) == ("expired", "deadline_exceeded")
            await until(lambda: heard.ends)
            await until(lambda: not service.maker.work.in_hand)
            assert heard.outcomes == {job.id: "expired"}
            service.maker.work.down = None

    run(test)


def test_a_deadline_that_another_replica_moved_is_waited_for_from_the_next_look_on():
    looks: list[str] = []

    class Looked(Store):
        def request(self, request_id):
            looks.append(request_id)
            return super().request(request_id)

    async def test() -> None:
        store = Looked(MemoryRecordStore())
        async with served(store, Synthetic(fixed_s=0.01)) as service:
            service.maker.engine.pause()
            job = await service.submit({"prompt": "a red ring", "deadline": 1.0}, CALLER)
            store.plan(job.id, {"deadline": 3600.0})
            looks.clear()
            await until(lambda: looks)
            await asyncio.sleep(1.6)
            assert len(looks) == 1
            assert (await service.get(job.id, CALLER)).state == "running"

    run(test)


def test_a_version_that_is_let_go_while_the_engine_process_comes_up_again_is_not_loaded_for_good():
    first, other = (VersionToLoad(name, f"{name}@1", "") for name in ("a" * 64, "b" * 64))

    async def test(gone: VersionToLoad, at: int) -> None:
        """It is let go during the load number `at`."""
        events: list[object] = []
        engine = EngineProcess(EngineConfig(synthetic=Synthetic(load_s=0.2)), events.append)
        reviver = Reviver(engine, Making(restart_s=(0.05, 0.1)), events.append)
        await reviver.start(first)
        await reviver.load(other)
        os.kill(engine.pid, signal.SIGKILL)
        await until(lambda: any(isinstance(event, Died) for event in events))
        assert reviver.died()
        load, loads = engine.load, itertools.count(1)

        async def lets_go(version: VersionToLoad) -> Loaded:
            letting_go = asyncio.ensure_future(reviver.unload(gone.version_digest)) if next(loads) == at else None
            loaded = await load(version)
            if letting_go is not None:
                with contextlib.suppress(EngineError):
                    await letting_go
            return loaded

        engine.load = lets_go
        await reviver.revive()
        events.clear()
        await until(lambda: any(isinstance(event, Stats) for event in events))
        [kept] = {first, other} - {gone}
        assert next(event for event in events if isinstance(event, Stats)).versions == [kept.version_digest]
        await engine.stop(0)

    for gone, at in ((other, 1), (first, 2)):
        run(lambda gone=gone, at=at: test(gone, at))


def test_a_job_that_ended_is_not_remembered_until_a_deadline_that_is_far_off(monkeypatch):
    monkeypatch.setattr("videogen.serving.making.deadlines.LONGEST_S", 0.2)

    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=0.01)) as service:
            waits = await service.submit({"prompt": "a red ring", "deadline": 1e6}, CALLER)
            assert len(service.maker.deadlines) == 1
            assert (await end_of(service, waits.id)).status == "completed"
            await until(lambda: not len(service.maker.deadlines))
            service.maker.engine.pause()
            await service.submit({"prompt": "a red ring", "deadline": 1e6}, CALLER)
            await asyncio.sleep(1.0)
            assert len(service.maker.deadlines) == 1, "it has not ended"

    run(test)


def test_a_slow_device_is_given_two_full_batches():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=10.0, largest=12)) as service:
            assert service.maker.room == 24

    run(test)


def test_what_only_waits_for_its_decoding_leaves_the_steps_to_others():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=10.0, largest=12)) as service:
            service.maker.engine.pause()
            job = await service.submit({"prompt": "a red ring"}, CALLER)
            assert service.maker.room == 23
            service.maker.heard(Progress(job.id, 3, 4))
            assert service.maker.room == 23
            service.maker.heard(Progress(job.id, 4, 4))
            assert service.maker.room == 24

    run(test)


class Trying(MemoryRecordStore):
    """One that is away, or in which who looks at what is live waits until `looks_on` is set."""

    is_away = False

    def __init__(self):
        super().__init__()
        self.looks, self.looks_on = threading.Event(), threading.Event()
        self.looks_on.set()

    def map_range(self, kind, key, after="", limit=1000):
        if kind == "live" and not self.looks_on.is_set():
            self.looks.set()
            assert self.looks_on.wait(60)
        return super().map_range(kind, key, after, limit)

    def write_many(self, writes):
        if self.is_away:
            raise StoreUnavailable("it is away")
        return super().write_many(writes)


def test_what_is_claimed_while_the_service_ends_is_given_back():
    records = Trying()
    store = Store(records)

    async def test() -> None:
        async with served(store, Synthetic(), Making(poll_s=(0.01, 0.01))) as service:
            version = service.versions.current
            wish = parse_request({"prompt": "a red ring", "lane": "interactive", "model": "synthetic"})
            request = accept(wish, version.spec, version.version_digest, label=version.label)
            records.looks_on.clear()
            await until(records.looks.is_set)
            store.submit(request.model_copy(update={"fingerprint": UNGATED + request.id}))
            asyncio.get_running_loop().call_later(0.3, records.looks_on.set)
            await service.stop(0.1)
            await asyncio.sleep(1.0)
            record = store.request(request.id)
            assert (record.state, record.attempts) == ("queued", 0)

    run(test)


def test_a_store_that_is_away_at_the_end_keeps_nobody_from_ending():
    records = Trying()

    async def test() -> None:
        async with served(Store(records), Synthetic()) as service:
            service.maker.engine.pause()
            await service.submit({"prompt": "a red ring"}, CALLER)
            records.is_away = True
            await service.stop(0.1)
            assert not service.maker.engine.alive

    run(test)
