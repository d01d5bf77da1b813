"""A champion that could not be served is tried again, while the old one goes on."""

import asyncio
from dataclasses import replace

from tests.serving.in_process import CALLER, Heard, end_of, run, served
from videogen.errors import EngineUnavailable
from videogen.serving.engine.messages import Synthetic
from videogen.serving.versions.preparing import synthetic
from videogen.serving.versions.retrying import Patience, Retries
from videogen.serving.versions.swapping import Swapper
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import Champion
from videogen.store.store import Store

TWO = "e" * 64
QUICK = Patience(first_s=0.4, longest_s=0.4, most=3)


class Swaps(Heard):
    def __init__(self) -> None:
        super().__init__()
        self.swaps: list[bool] = []

    def swapped(self, succeeded, seconds, longest_gap_s):
        self.swaps.append(succeeded)


class Files:
    """Of version two, which can be had or not."""

    there = False

    def prepare(self, reference):
        if not self.there:
            raise EngineUnavailable("its files cannot be had")
        version, to_load = synthetic()
        return replace(version, label="synthetic@2", version_digest=TWO), replace(to_load, version_digest=TWO)


def following(files, observer, scenario):
    store = Store(MemoryRecordStore())

    async def test() -> None:
        def follow(maker):
            return Swapper(maker, "synthetic", files.prepare, lambda *_: True, QUICK)

        device = Synthetic(fixed_s=0.005, each_s=0.0)
        async with served(store, device, observer=observer, following=follow) as service:
            store.promote("synthetic", Champion(TWO, "synthetic@2"), 0)
            await scenario(service, service.admin.swapper, store)

    run(test)


async def look_for(swapper, seconds: float) -> None:
    """As following the pointer does, only sooner."""
    async with asyncio.timeout(seconds + 60):
        for _ in range(round(seconds / 0.02)):
            await swapper.look()
            await asyncio.sleep(0.02)


def test_what_fails_for_a_while_is_served_once_it_can_be():
    files, observer = Files(), Swaps()

    async def scenario(service, swapper, store):
        await swapper.look()
        [told] = service.readiness.warnings
        assert "its files cannot be had; try 1 of 3, the next at" in told
        await swapper.look()
        assert observer.swaps == [False], "not before its time"
        job = await service.submit({"prompt": "a red ring"}, CALLER)
        assert (await end_of(service, job.id)).label == "synthetic@1"
        files.there = True
        while service.readiness.warnings:
            await look_for(swapper, 0.1)
        assert service.versions.current.label == "synthetic@2" and observer.swaps == [False, True]
        await look_for(swapper, 0.8)
        assert observer.swaps == [False, True], "what is served is not tried again"

    following(files, observer, scenario)


def test_it_is_given_up_in_the_end_until_the_pointer_moves():
    files, observer = Files(), Swaps()

    async def scenario(service, swapper, store):
        while len(observer.swaps) < QUICK.most:
            await look_for(swapper, 0.1)
        assert "given up after 3 tries" in service.readiness.warnings[0] and service.readiness.ready
        await look_for(swapper, 0.8)
        assert observer.swaps == [False] * QUICK.most
        files.there = True
        store.promote("synthetic", Champion("d" * 64, "synthetic@3"), store.champion_generation("synthetic"))
        store.rollback("synthetic")
        await swapper.look()
        assert service.versions.current.label == "synthetic@2" and not service.readiness.warnings

    following(files, observer, scenario)


def test_each_try_comes_later_than_the_one_before_up_to_a_bound():
    retries = Retries(Patience(first_s=1000.0, longest_s=3000.0, most=9))
    told = [retries.failed(may_again=True) for _ in range(9)]
    assert told[0].startswith("try 1 of 9, the next at") and told[-1].startswith("given up after 9 tries")
    assert not retries.is_due
    assert "no room for both" in retries.failed(may_again=False)
    retries.over()
    assert retries.failed(may_again=True).startswith("try 1 of 9")
