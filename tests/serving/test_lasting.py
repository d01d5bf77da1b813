"""What is to last does not end unseen: the service's own tasks, the engine process's threads, a warning that is old."""

import asyncio
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from tests.serving.engine.running import QUICK, SYNTHETIC, engine
from tests.serving.in_process import CALLER, end_of, run, served
from videogen.errors import EngineUnavailable
from videogen.serving.engine.messages import EngineConfig, Synthetic
from videogen.serving.engine_process import EngineProcess
from videogen.serving.making.in_hand import Making
from videogen.serving.versions.preparing import synthetic
from videogen.serving.versions.swapping import Swapper
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import Champion
from videogen.store.store import Store


class Faulty(MemoryRecordStore):
    """One whose reads of what is live fail in a way that nobody foresaw, as often as it is told to."""

    faults = 0

    def map_range(self, kind, key, after="", limit=1000):
        if self.faults and kind == "live":
            self.faults -= 1
            raise RuntimeError("nobody foresaw this")
        return super().map_range(kind, key, after, limit)


def test_claiming_goes_on_after_a_fault_that_nobody_foresaw():
    records = Faulty()
    store = Store(records)

    async def test() -> None:
        async with served(store, Synthetic(fixed_s=0.01), Making(poll_s=(0.02, 0.05))) as service:
            records.faults = 1
            await asyncio.sleep(0.5)
            assert not records.faults
            job = await service.submit({"prompt": "a red ring"}, CALLER)
            assert (await end_of(service, job.id)).status == "completed"

    run(test)


def test_an_engine_process_that_cannot_lease_its_device_ends(tmp_path):
    (tmp_path / "file").write_text("")

    async def scenario():
        async with engine(EngineConfig(lease_folder=str(tmp_path / "file"), streams=1)) as (process, _):
            with pytest.raises(EngineUnavailable):
                await process.load(SYNTHETIC)

    asyncio.run(asyncio.wait_for(scenario(), 60.0))


def test_without_a_file_to_spare_the_engine_process_is_unavailable_for_now():
    async def scenario():
        process = EngineProcess(QUICK, lambda event: None)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) - 1, hard))
        try:
            with pytest.raises(EngineUnavailable, match="files"):
                await process.start()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await process.start()
        await process.stop(0)

    asyncio.run(scenario())


def test_a_reload_that_succeeds_takes_away_the_warning_of_the_failure_before_it():
    digest, store = "e" * 64, Store(MemoryRecordStore())
    there = []

    def prepare(reference):
        if not there:
            raise EngineUnavailable("its files cannot be had")
        version, to_load = synthetic()
        return replace(version, label="synthetic@2", version_digest=digest), replace(to_load, version_digest=digest)

    async def test() -> None:
        def following(maker):
            return Swapper(maker, "synthetic", prepare, lambda *_: True)

        async with served(store, Synthetic(fixed_s=0.005, each_s=0.0), following=following) as service:
            store.promote("synthetic", Champion(digest, "synthetic@2"), 0)
            await service.admin.swapper.look()
            assert "cannot be had" in service.readiness.warnings[0]
            there.append(True)
            assert (await service.admin.reload())["serving"] == "synthetic@2"
            assert not service.readiness.warnings

    run(test)
