"""Who joins another's video is counted as their usage tells it, whether it is being made already or waits."""

import dataclasses
from collections import Counter

from tests.serving.in_process import CALLER, Heard, end_of, run, served
from videogen.serving.engine.messages import Synthetic
from videogen.serving.observing import Submitted
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
