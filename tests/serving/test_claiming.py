"""How the queue is claimed: at once, of all versions, no more than there is room for, and nothing in vain."""

import asyncio
import time

import pytest

from tests.serving.in_process import CALLER, end_of, run, served, until
from tests.store.builders import DIGEST, accepted, memory_store
from videogen.requests import UNGATED, accept, parse_request
from videogen.serving.engine.messages import Synthetic
from videogen.serving.making.claiming import Claimer
from videogen.serving.making.in_hand import Making
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store


def test_what_is_queued_while_the_queue_is_looked_at_is_claimed_at_once():
    store, claimed = memory_store(), asyncio.Event()
    request = accepted(lane="interactive")

    async def call(work):
        found = work()
        if not found and not claimed.is_set():
            store.submit(request)
            claimer.wake()
        return found

    def take(claims):
        if [claim.request.id for claim in claims] == [request.id]:
            claimed.set()

    claimer = Claimer(store, call, "me", Making(poll_s=(3600.0, 3600.0)))

    async def run():
        looking = asyncio.ensure_future(claimer.run(lambda: 8, lambda: [DIGEST], take))
        await asyncio.wait_for(claimed.wait(), 30.0)
        looking.cancel()

    asyncio.run(run())


def test_a_version_of_which_much_is_asked_keeps_no_other_waiting():
    store, taken = memory_store(), []
    old, new = DIGEST, "e" * 64
    for seed in range(40):
        store.submit(accepted(seed, lane="interactive"))
    store.submit(accepted(99, lane="interactive").model_copy(update={"version_digest": new}))

    async def call(work):
        return work()

    def take(claims):
        taken.append({claim.request.version_digest for claim in claims})
        if len(taken) == 2:
            raise asyncio.CancelledError

    claimer = Claimer(store, call, "me", Making())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(claimer.run(lambda: 4, lambda: [old, new], take))
    assert taken == [{old}, {new}]


def test_a_burst_of_requests_is_not_all_claimed_by_the_replica_that_accepts_it():
    async def test() -> None:
        making = Making(least_ahead=4, most_ahead=4)
        async with served(Store(MemoryRecordStore()), Synthetic(largest=1), making) as service:
            service.maker.engine.pause()
            await until(lambda: service.maker.takes_newcomers)
            asked = [service.submit({"prompt": "a red ring", "seed": seed}, CALLER) for seed in range(50)]
            await asyncio.gather(*asked)
            await asyncio.sleep(0.3)
            assert len(service.maker.work.in_hand) == 4
            service.maker.engine.resume()

    run(test)


def test_what_is_claimed_for_a_caller_who_leaves_meanwhile_is_made_without_another_attempt():
    class Slow(MemoryRecordStore):
        def write(self, write):
            if write.kind == "request":
                time.sleep(0.3)
            return super().write(write)

    async def test() -> None:
        store = Store(Slow())
        async with served(store, Synthetic()) as service:
            await until(lambda: service.maker.takes_newcomers)
            submitting = asyncio.ensure_future(service.submit({"prompt": "a red ring"}, CALLER))
            await asyncio.sleep(0.1)
            submitting.cancel()
            await until(store.requests)
            job_id = store.requests()[0].id
            assert (await end_of(service, job_id)).status == "completed"
            assert store.request(job_id).attempts == 1

    run(test)


def test_newcomers_go_first_only_while_nobody_is_known_to_wait():
    store, room = memory_store(), 0

    async def call(work):
        return work()

    claimer = Claimer(store, call, "me", Making(poll_s=(3600.0, 3600.0)))

    async def test() -> None:
        nonlocal room
        looking = asyncio.ensure_future(claimer.run(lambda: room, lambda: [DIGEST], lambda claims: None))
        await until(lambda: not claimer.saw_none)
        room = 8
        claimer.has_room()
        await until(lambda: claimer.saw_none)
        store.submit(accepted(lane="interactive"))
        claimer.wake()
        assert not claimer.saw_none
        await until(lambda: claimer.saw_none)
        looking.cancel()

    run(test)


def test_what_passed_no_gates_claims_nothing_that_asks_for_what_did():
    """Both of one version; a request for the ungated one may also be made by the one that passed."""
    store, served = memory_store(), UNGATED + DIGEST
    gated, asked = accepted(1, lane="interactive"), accepted(2, lane="interactive")
    ungated = asked.model_copy(update={"fingerprint": UNGATED + asked.id})
    store.submit(gated)
    store.submit(ungated)
    claims = store.claim_lane("interactive", "without gates", 60.0, 8, served)
    assert [claim.request.id for claim in claims] == [ungated.id]
    store.release(claims)
    claims = store.claim_lane("interactive", "champion", 60.0, 8, DIGEST)
    assert {claim.request.id for claim in claims} == {gated.id, ungated.id}


def test_a_service_of_what_passed_no_gates_leaves_the_champion_s_requests_to_others():
    store = memory_store()

    async def test() -> None:
        async with served(store, Synthetic(), Making(poll_s=(0.01, 0.01))) as service:
            version = service.versions.current
            assert (
                version is not None
                and version.ungated
                and service.maker.stands().versions == {UNGATED + version.version_digest}
            )
            wish = parse_request({"prompt": "a red ring", "lane": "interactive", "model": version.name})
            gated = store.submit(accept(wish, version.spec, version.version_digest, label=version.label))
            own = await service.submit({"prompt": "a red ring"}, CALLER)
            assert (await end_of(service, own.id)).status == "completed"
            assert store.request(gated.id).state == "queued"

    run(test)
