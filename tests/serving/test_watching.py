"""How a job is followed: from this process's own knowledge while it is made here, from the store for all else."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence

import pytest

from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.errors import StoreUnavailable
from videogen.serving.engine.messages import Synthetic
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store


class CountedRecords(MemoryRecordStore):
    """Counts what is read, by kind."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = Counter[str]()

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False):
        self.reads[kind] += 1
        return super().read_many(kind, keys, aged)


def test_a_job_that_is_made_here_is_followed_to_its_end_without_a_look():
    records = CountedRecords()

    async def test() -> None:
        async with served(Store(records), Synthetic(fixed_s=0.03)) as service:
            job = await service.submit({"prompt": "a red ring", "num_inference_steps": 10}, CALLER)
            records.reads.clear()
            seen = [changed async for changed in service.watch(job.id, CALLER, job)]
            assert records.reads["hidden-request"] == 0, "it was looked up, though all of it is known here"
            assert seen[-1] == await service.get(job.id, CALLER)
            assert [changed.progress for changed in seen] == sorted(changed.progress for changed in seen)
            assert {changed.state for changed in seen[:-1]} == {"running"} and len(seen) > 5
            assert seen[-1].status == "completed" and seen[-1].video is not None
            content = b"".join([piece async for piece in service.contents.of(seen[-1]).stream()])
            assert len(content) == seen[-1].video.size

    run(test)


def test_who_follows_a_job_is_told_its_end_although_the_store_was_busy_and_away_meanwhile():
    store = Store(MemoryRecordStore())

    async def test() -> None:
        async with served(store, Synthetic()) as service:
            accepted = service.versions.accept({"prompt": "a red ring"}, CALLER.tenant)
            _, (claim,) = store.submit_and_claim(accepted, "another replica", 60.0)
            job = await service.get(accepted.id, CALLER)
            seen: list[list[str]] = [[], []]
            following = [
                asyncio.ensure_future(_follow(service, job.id, last, told))
                for last, told in zip((None, job), seen, strict=True)
            ]
            await until(lambda: seen[0])
            service.calls.most = 0
            store.publish(claim, b"mp4", {})
            await asyncio.sleep(0.2)  # they look, and are refused
            service.readiness.away = "the store is away: no answer"
            await asyncio.sleep(0.6)
            assert not any(one.done() for one in following)
            with pytest.raises(StoreUnavailable):
                await end_of(service, job.id)
            service.calls.most, service.readiness.away = 512, None
            await asyncio.gather(*following)
            assert [told[-1] for told in seen] == ["completed"] * 2

    run(test)


async def _follow(service, job_id, last, told):
    async for changed in service.watch(job_id, CALLER, last):
        told.append(changed.status)


def test_who_waits_for_the_end_alone_is_told_no_step():
    async def test() -> None:
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=0.03)) as service:
            job = await service.submit({"prompt": "a red ring", "num_inference_steps": 10}, CALLER)
            seen = [told async for told in service.watch(job.id, CALLER, job, with_place=False, with_progress=False)]
            assert [told.status for told in seen] == ["completed"]

    run(test)


@pytest.mark.parametrize("here", [True, False], ids=["here", "by another replica"])
def test_a_job_that_is_cancelled_ends_for_who_follows_it_although_steps_go_on(here):
    store = Store(MemoryRecordStore())

    async def test() -> None:
        async with served(store, Synthetic(fixed_s=0.15)) as service:
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, ungated=False))  # else nobody joins
            fields = {"prompt": "a red ring", "seed": 1, "num_inference_steps": 50}
            job, other = await service.submit(fields, CALLER), await service.submit(fields, CALLER)
            first = True
            async for changed in service.watch(job.id, CALLER, job):
                if first:
                    first = False
                    await service.cancel(job.id, CALLER) if here else store.cancel(job.id)
                job = changed
            assert job.state == "cancelled"
            going_on = await service.get(other.id, CALLER)
            assert going_on.status == "in_progress", "whoever joined it gets its video all the same"

    run(test)
