"""Who joins another's video is counted as their usage tells it, whether it is being made already or waits."""

import dataclasses
from collections import Counter

from tests.serving.in_process import CALLER, Heard, end_of, run, served
from videogen.serving.engine.messages import Synthetic
from videogen.serving.telemetry.observing import Submitted
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

WISH = {"prompt": "a red ring", "seed": 7}


class Counted(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.caches: list[str] = []

    def submitted(self, job: Submitted) -> None:
        self.caches.append(job.cache)


def test_what_is_counted_when_it_is_accepted_is_what_the_usage_says_in_the_end():
    async def test() -> None:
        counted = Counted()
        async with served(Store(MemoryRecordStore()), Synthetic(fixed_s=0.1), observer=counted) as service:
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, ungated=False))  # else nothing is shared
            service.maker._taking = False
            waiting = [await service.submit(WISH, CALLER) for _ in range(3)]
            waiting.append(await service.submit({**WISH, "seed": 8}, CALLER))
            assert {job.status for job in waiting} == {"queued"}
            assert counted.caches == ["miss", "joined", "joined", "miss"]
            service.maker._taking = True
            service.maker.wake()
            first = service.watch(waiting[0].id, CALLER)
            await anext(job async for job in first if job.status == "in_progress")
            running = await service.submit(WISH, CALLER)
            ended = [await end_of(service, job.id) for job in (*waiting, running)]
            hit = await service.submit(WISH, CALLER)
            told = [job.usage.cache for job in (*ended, hit) if job.usage]
            assert Counter(told) == Counter(counted.caches) and told == counted.caches
            assert counted.caches[-2:] == ["joined", "hit"]

    run(test)


class Taken(MemoryRecordStore):
    """Does something just when what was written is made to last."""

    meanwhile = staticmethod(lambda: None)

    def flush(self):
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        super().flush()


def test_what_another_replica_takes_while_it_is_accepted_is_made_for_it():
    async def test() -> None:
        counted, store = Counted(), Store(records := Taken())
        async with served(store, Synthetic(fixed_s=0.1), observer=counted) as service:
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, ungated=False))
            service.maker._taking = False
            records.meanwhile = lambda: store.claim_lane("interactive", "another replica", 30.0)
            job = await service.submit(WISH, CALLER)
            assert store.request(job.id).state != "queued", "it was taken"
            await service.submit(WISH, CALLER)
            assert counted.caches == ["miss", "joined"]

    run(test)
