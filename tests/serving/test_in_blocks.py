"""Requests and videos that go into the store together, in a backend that has blocks, end each as it would alone."""

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Sequence
from contextlib import closing

import pytest

from tests.serving.in_process import CALLER, Heard, end_of, run, served, until
from tests.store.builders import accepted
from videogen.errors import Overloaded, StoreUnavailable
from videogen.serving.engine.messages import Finished, Synthetic
from videogen.serving.making import results
from videogen.serving.making.in_hand import InHand
from videogen.serving.making.results import Results
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.primitives import Record, SetPayload, Write
from videogen.store.store import Store


class SmallDisk(EmbeddedRecordStore):
    """Has no room for a payload of more than 1,000 bytes."""

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        payloads = [len(one.payload) for write in writes for one in write.operations if isinstance(one, SetPayload)]
        if any(size > 1000 for size in payloads):
            raise StoreUnavailable("no space left on device")
        return super().write_many(writes)


@pytest.fixture
def records(tmp_path):
    with closing(EmbeddedRecordStore(tmp_path)) as records:
        yield records


async def call(work):
    return await asyncio.to_thread(work)


def made_by(claims, sizes) -> list[tuple[InHand, Finished]]:
    """A video of so many bytes for each."""
    return [
        (InHand(claim, taken_at=0.0), Finished(claim.request.id, {}, bytes([number]) * size))
        for number, (claim, size) in enumerate(zip(claims, sizes, strict=True))
    ]


def test_what_comes_at_once_is_admitted_as_one_by_one(records):
    """Each of a block stands behind those before it."""

    async def test() -> None:
        async with served(Store(records), Synthetic(fixed_s=0.05, each_s=0.0, largest=1)) as service:
            fields = {"prompt": "a red ring", "num_inference_steps": 4, "deadline": 1.5}
            wishes = [service.submit({**fields, "seed": seed}, CALLER) for seed in range(40)]
            told = await asyncio.gather(*wishes, return_exceptions=True)
            refused = sum(isinstance(one, Overloaded) for one in told)
            assert refused + sum(not isinstance(one, Exception) for one in told) == 40
            assert refused >= 20, "200 ms each, one by one: some seven of them can be there in time"

    run(test)


def test_a_job_that_expired_before_its_video_came_is_told_of_once(records):
    heard = Heard()

    async def test() -> None:
        async with served(Store(records), Synthetic(), observer=heard) as service:
            current = service.versions.current
            assert current is not None
            service.versions.admit(dataclasses.replace(current, ungated=False))  # else nothing is shared
            service.maker.engine.pause()
            wish = {"prompt": "a red ring", "seed": 1}
            first = await service.submit({**wish, "deadline": 1.0}, CALLER)
            second = await service.submit(wish, CALLER)
            await until(lambda: heard.outcomes.get(first.id) == "expired")
            service.maker.engine.resume()
            assert (await end_of(service, second.id)).status == "completed"
            await asyncio.sleep(0.1)
            assert heard.outcomes[first.id] == "expired"  # `outcomes` fails for who was told of twice
            assert (await end_of(service, first.id)).status == "failed"

    run(test)


def test_a_video_that_the_store_has_no_room_for_costs_the_others_nothing(tmp_path):
    with closing(SmallDisk(tmp_path)) as records:
        store, heard = Store(records), Heard()
        claims = [store.submit_and_claim(accepted(seed), "me", 60.0)[1][0] for seed in range(4)]

        async def test() -> None:
            into = Results(store, call, heard, "me", {}, outlast_s=0.0)
            made = made_by(claims, (10, 2000, 20, 30))
            told = await asyncio.gather(*(into.publish(*pair) for pair in made))
            assert [one is not None for one in told] == [True, False, True, True]

        run(test)
        states = Counter(store.request(claim.request.id).state for claim in claims)
    assert states == {"done": 3, "running": 1} and set(heard.outcomes.values()) == {"completed"}


def test_blocks_of_videos_are_bounded_in_bytes(records, monkeypatch):
    monkeypatch.setattr(results, "BLOCK_BYTES", 1000)
    store, blocks = Store(records), []
    claims = [store.submit_and_claim(accepted(seed), "me", 60.0)[1][0] for seed in range(6)]
    publish = store.publish_all
    monkeypatch.setattr(store, "publish_all", lambda made: (blocks.append(len(made)), publish(made))[1])

    async def test() -> None:
        into = Results(store, call, Heard(), "me", {}, outlast_s=1.0)
        made = made_by(claims, range(400, 406))
        assert all(await asyncio.gather(*(into.publish(*pair) for pair in made)))

    run(test)
    assert blocks == [2, 2, 2]
