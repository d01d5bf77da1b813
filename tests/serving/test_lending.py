"""Leases that runs hand over, in the test's own process: whoever waits for news of one hears how it ends."""

import asyncio

import pytest

from tests.serving.forking.changing import gated
from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.client.results import HANDED_BACK, Executed, ExecuteFailed
from videogen.client.results import Claim as Lease
from videogen.errors import Overloaded, StoreConflict
from videogen.models.spec import ModelSpec
from videogen.requests import UNGATED, accept, new_id, parse_request
from videogen.serving.engine.messages import Synthetic
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

SPEC = ModelSpec("synthetic", num_inference_steps=4, guidance_scale=1.0)


class Contended(MemoryRecordStore):
    """One in which no video can be written while others write."""

    refuses = True

    def write(self, write):
        if self.refuses and write.kind == "video":
            raise StoreConflict("others write")
        return super().write(write)


def sealed(store, count, **fields):
    """A batch of requests that share their videos with nobody."""
    ids = []
    for seed in range(count):
        wish = parse_request({"prompt": "a red ring", "seed": seed, "model": "synthetic", **fields})
        accepted = accept(wish, SPEC, "synthetic", label="synthetic@1")
        ids.append(store.submit(accepted.model_copy(update={"fingerprint": UNGATED + accepted.id}), "test").id)
    return store.seal_batch(ids, 600).id


def leases(claims):
    return [Lease(one.request.id, one.generation, one.token, one.attempt, one.holder, one.lease_s) for one in claims]


async def ends(news):
    return [item async for item in news if isinstance(item, Executed | ExecuteFailed)]


def test_who_lends_again_what_a_dead_run_lent_gets_it_although_that_runs_call_ends_later():
    async def test() -> None:
        store = Store(MemoryRecordStore())
        async with served(store, Synthetic(fixed_s=0.01)) as service:
            batch = sealed(store, 3)
            service.maker.engine.pause()
            claims = store.claim(batch, "run", 60.0)
            dead = service.admin.execute(leases(claims))
            hears = asyncio.ensure_future(anext(dead))
            await until(lambda: len(service.maker.work.in_hand) == 3)
            store.release(claims)
            again = store.claim(batch, "run", 60.0)
            second = asyncio.ensure_future(ends(service.admin.execute(leases(again))))
            assert (await hears).retry, "it is another's by now"
            await dead.aclose()
            service.maker.engine.resume()
            assert [type(item) for item in await second] == [Executed] * 3

    run(test)


def test_what_a_run_lends_is_made_however_many_callers_ask():
    async def test() -> None:
        store = Store(MemoryRecordStore())
        async with served(store, Synthetic(fixed_s=0.01)) as service:
            claims = store.claim(sealed(store, 2), "run", 60.0)
            service.calls.most = 0
            told = await ends(service.admin.execute(leases(claims)))
            assert [type(item) for item in told] == [Executed] * 2

    run(test)


@pytest.mark.parametrize(("lent", "asked"), [("standard", "standard"), ("batch", "interactive")])
def test_lent_work_that_a_request_goes_before_does_not_have_it_refused(lent, asked):
    async def test() -> None:
        store = Store(MemoryRecordStore())
        async with served(store, Synthetic(fixed_s=0.04, each_s=0.0, largest=1)) as service:
            claims = store.claim(sealed(store, 100, priority=lent), "run", 60.0, limit=100)
            told = asyncio.ensure_future(ends(service.admin.execute(leases(claims))))
            await until(lambda: len(service.maker.work.in_hand) == 100)
            job = await service.submit({"prompt": "a red ring", "priority": asked, "deadline": 8.0}, CALLER)
            assert (await end_of(service, job.id)).status == "completed"
            assert len(service.maker.work.in_hand) > 10, "of 16 s of work"
            told.cancel()

    run(test)


def test_lent_work_that_goes_before_a_request_counts():
    async def test() -> None:
        store = Store(MemoryRecordStore())
        async with served(store, Synthetic(fixed_s=0.04, each_s=0.0, largest=1)) as service:
            claims = store.claim(sealed(store, 100, priority="interactive"), "run", 60.0, limit=100)
            told = asyncio.ensure_future(ends(service.admin.execute(leases(claims))))
            await until(lambda: len(service.maker.work.in_hand) == 100)
            with pytest.raises(Overloaded, match="deadline"):
                await service.submit({"prompt": "a red ring", "deadline": 4.0}, CALLER)
            told.cancel()

    run(test)


@pytest.mark.parametrize("count", [1, 2])
def test_a_lease_whose_request_was_changed_costs_those_who_joined_it_nothing(count):
    async def test() -> None:
        store = Store(MemoryRecordStore())
        wish = parse_request({"prompt": "a red ring", "seed": 1, "model": "synthetic"})
        first = accept(wish, SPEC, "synthetic", label="synthetic@1")
        ids = [store.submit(first.model_copy(update={"id": name})).id for name in [first.id, new_id()][:count]]
        async with served(store, Synthetic(fixed_s=0.01)) as service:
            gated(service)
            claims = store.claim(store.seal_batch(ids, 600).id, "run", 60.0)
            store.fork(claims[0].request.id, {"prompt": "a blue ring"}, 0)
            [told] = await ends(service.admin.execute(leases(claims)))
            if count == 1:
                assert (told.code, told.retry) == (HANDED_BACK, True), "nobody waits for it"
            else:
                assert isinstance(told, Executed)
                assert store.request(next(name for name in ids if name != claims[0].request.id)).state == "done"

    run(test)


@pytest.mark.parametrize("count", [1, 3])
def test_what_cannot_be_published_is_told(count):
    async def test() -> None:
        store = Store(Contended())
        async with served(store, Synthetic(fixed_s=0.01)) as service:
            claims = store.claim(sealed(store, count), "run", 60.0)
            told = await ends(service.admin.execute(leases(claims)))
            assert [(item.code, item.retry) for item in told] == [("not_published", True)] * count
            assert service.work.speed.publish_s == 0, "nothing was published"

    run(test)
