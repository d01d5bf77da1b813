"""What comes of a job that is asked otherwise: here, in the queue, at another replica, and across deaths."""

import asyncio
import contextlib
import random
import time
import urllib.request

import pytest

from tests.serving.forking.changing import BLUE, DEVICE, LONG, NEW, OLD, gated, kill_engine, made, steps_of, video_of
from tests.serving.in_process import CALLER, end_of, run, served, until
from tests.serving.running import serving
from videogen.errors import EngineUnavailable, StoreConflict
from videogen.serving.engine.synthetic import sample
from videogen.serving.making.in_hand import Making


def test_a_job_in_flight_goes_on_otherwise_from_its_next_step(store):
    async def scenario():
        async with made(store, 3) as (service, name):

            async def watch():
                return [one async for one in service.watch(name, CALLER)]

            watching = asyncio.ensure_future(watch())
            changed = await service.change(name, BLUE, CALLER)
            [change] = changed.changes
            assert change.step >= 3 and change.prompt == "a blue ball" and changed.request.prompt == "a red ball"
            assert changed.status == "in_progress" and changed.progress >= change.step / 30
            assert len(service.work.in_hand) == 1
            end = await end_of(service, name)
            assert end.status == "completed" and video_of(store, end) == NEW
            assert end.changes == changed.changes and end.usage.cache == "miss"
            assert end.usage.gpu_seconds > 0.06 * 20
            assert end.video.provenance["changes"] == [{"step": change.step, "prompt": "a blue ball"}]
            assert end.video.provenance["attempt"] == 1
            seen = await asyncio.wait_for(watching, 10)
            shares = [one.progress for one in seen]
            assert shares == sorted(shares) and len(set(shares)) > 5 and seen[-1].status == "completed"
            assert not service.work.in_hand and not service.work.engine.held
            assert len(service.maker.changes) == 0

    run(scenario)


def test_who_joined_keeps_the_old_video_and_no_cache_has_the_new_one(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            gated(service)
            first = await service.submit(LONG, CALLER)
            joined = [await service.submit(LONG, CALLER) for _ in range(2)]
            await steps_of(service, first.id, 2)
            await service.change(first.id, BLUE, CALLER)  # whose lease it is
            await service.change(joined[1].id, {"guidance_scale": 3.0}, CALLER)  # who waits for it
            assert len(service.work.in_hand) == 3
            ends = [await end_of(service, one.id) for one in (first, *joined)]
            assert [end.status for end in ends] == ["completed"] * 3
            assert [video_of(store, end) for end in ends] == [NEW, OLD, NEW]
            assert [end.video.provenance["attempt"] for end in ends] == [1, 1, 1], "nothing was begun again"
            assert [end.usage.cache for end in ends] == ["miss", "miss", "miss"]
            again = await service.submit(LONG, CALLER)
            assert again.usage is not None and again.usage.cache == "hit" and video_of(store, again) == OLD
            blue = await service.submit({**LONG, **BLUE}, CALLER)
            assert blue.status == "queued", "nobody is answered with a fork"

    run(scenario)


def test_a_job_that_waits_is_what_is_asked_now(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            service.work.engine.pause()
            job = await service.submit(LONG, CALLER)
            await until(lambda: service.work.in_hand)
            changed = await service.change(job.id, {**BLUE, "guidance_scale": 2.0}, CALLER)
            assert [change.step for change in changed.changes] == [0]
            assert changed.request.prompt == "a blue ball" and changed.request.guidance_scale == 2.0
            service.work.engine.resume()
            end = await end_of(service, job.id)
            assert video_of(store, end) == NEW and end.video.provenance["attempt"] == 1

    run(scenario)


def test_a_job_in_the_queue_is_changed_there(store):
    async def scenario():
        async with served(store, DEVICE, Making(ahead_s=0.0, least_ahead=1, most_ahead=1)) as service:
            running = await service.submit({**LONG, "seed": 5}, CALLER)
            job = await service.submit(LONG, CALLER)
            assert job.id not in service.work.in_hand
            changed = await service.change(job.id, {**BLUE, "priority": "interactive", "deadline": 3600}, CALLER)
            assert changed.status == "queued" and [change.step for change in changed.changes] == [0]
            assert (changed.request.priority, changed.request.deadline) == ("interactive", 3600)
            assert store.request(job.id).priority == "interactive"
            assert video_of(store, await end_of(service, job.id)) == NEW
            assert (await end_of(service, running.id)).status == "completed"

    run(scenario)


def test_what_another_replica_makes_is_made_anew_from_the_step_that_the_store_heard_of(store):
    async def scenario():
        quick = Making(lease_s=1.0)
        async with served(store, DEVICE, quick, name="one") as one, served(store, DEVICE, quick, name="two") as two:
            two.maker._taking = False
            job = await one.submit(LONG, CALLER)
            joined = await one.submit(LONG, CALLER)
            while store.request(job.id).progress * 30 < 4:
                await asyncio.sleep(0.02)
            changed = await two.change(job.id, BLUE, CALLER)
            assert 4 <= changed.changes[0].step < 30
            ends = [await end_of(two, each.id) for each in (job, joined)]
            assert [end.status for end in ends] == ["completed", "completed"]
            assert [video_of(store, end) for end in ends] == [NEW, OLD]

    run(scenario)


def test_what_another_replica_changes_leaves_what_was_made_to_who_joined_it(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            gated(service)
            first, joined = await service.submit(LONG, CALLER), await service.submit(LONG, CALLER)
            await steps_of(service, first.id, 3)
            generation = service.work.held(first.id).claim.generation
            store.fork(first.id, BLUE, 3)
            service.maker.wake()
            await until(lambda: first.id in service.work.in_hand and joined.id in service.work.in_hand)
            held = service.work.held(joined.id)
            assert held.claim.generation == generation and held.progress * 30 >= 3
            ends = [await end_of(service, job.id) for job in (first, joined)]
            assert [video_of(store, end) for end in ends] == [NEW, OLD]

    run(scenario)


@pytest.mark.parametrize("hears_late", [False, True])
def test_a_fork_that_the_queue_is_faster_with_takes_over_what_was_made_all_the_same(store, hears_late):
    async def scenario():
        async with served(store, DEVICE) as service:
            gated(service)
            first, joined = await service.submit(LONG, CALLER), await service.submit(LONG, CALLER)
            await steps_of(service, first.id, 15)
            claim, claim_lane, loop = store.claim, store.claim_lane, asyncio.get_running_loop()

            def later(*args):
                loop.call_soon_threadsafe(service.maker.wake)
                time.sleep(0.4)
                return claim(*args)

            def told_later(*args):
                if found := claim_lane(*args):
                    time.sleep(0.8 if hears_late else 0)
                return found

            store.claim, store.claim_lane = later, told_later
            changed = await service.change(first.id, BLUE, CALLER)
            assert service.work.held(first.id).progress * 30 >= changed.changes[0].step >= 15
            ends = [await end_of(service, job.id) for job in (first, joined)]
            assert [video_of(store, end) for end in ends] == [NEW, OLD]
            assert [end.video.provenance["attempt"] for end in ends] == [1, 1]

    run(scenario)


def test_a_death_of_the_engine_between_change_and_end_gives_the_changed_video(store):
    async def scenario():
        async with made(store, 3, making=Making(restart_s=(0.05, 1.0))) as (service, name):
            changed = await service.change(name, BLUE, CALLER)
            await steps_of(service, name, changed.changes[0].step + 2)
            kill_engine(service)
            end = await end_of(service, name)
            assert end.status == "completed" and video_of(store, end) == NEW
            assert end.changes == changed.changes and end.video.provenance["attempt"] == 2

    run(scenario)


def test_a_death_of_the_replica_between_change_and_end_gives_the_changed_video(tmp_path):
    with serving(tmp_path) as first:
        name = first.submit("a red ball", seed=0, num_inference_steps=50)
        while first.ask(f"/v1/videos/{name}")["progress"] < 10:
            time.sleep(0.02)
        changed = first.ask(f"/v1/videos/{name}/change", BLUE)
        assert changed["changes"][0]["step"] >= 5
        first.process.kill()
    with serving(tmp_path) as second:
        end = second.end_of(name)
        assert (end["status"], end["changes"]) == ("completed", changed["changes"])
        with urllib.request.urlopen(f"{second.url}/v1/videos/{name}/content", timeout=30) as content:
            assert content.read() == sample(NEW)


def test_a_fork_may_be_cancelled(store):
    async def scenario():
        async with made(store, 2) as (service, name):
            await service.change(name, BLUE, CALLER)
            assert (await service.cancel(name, CALLER)).state == "cancelled"
            await until(lambda: not service.work.in_hand and not service.work.engine.held)

    run(scenario)


def test_whatever_is_changed_where_and_whatever_dies_each_job_gets_the_video_that_it_asks_for(store):
    """Two replicas, jobs that three callers share, changes by either of any of them, and an engine that is killed."""
    chance = random.Random(5)
    making = Making(lease_s=2.0, restart_s=(0.05, 1.0))

    async def scenario():
        async with served(store, DEVICE, making, name="one") as one, served(store, DEVICE, making, name="two") as two:
            for replica in (one, two):
                gated(replica)
            wishes = [{**LONG, "num_inference_steps": 25, "seed": seed} for seed in range(4) for _ in range(3)]
            jobs = [(await chance.choice((one, two)).submit(wish, CALLER)).id for wish in wishes]

            async def change() -> None:
                await asyncio.sleep(1.5 * chance.random())
                name, blue = chance.choice(jobs), {"prompt": f"a blue ball, {chance.randrange(10**9)}"}
                fields = chance.choice((blue, {"guidance_scale": 1 + 4 * chance.random()}, {"priority": "batch"}))
                with contextlib.suppress(StoreConflict, EngineUnavailable):  # too late, or while it died
                    await chance.choice((one, two)).change(name, fields, CALLER)

            async def kill() -> None:
                await asyncio.sleep(0.8)
                kill_engine(one)

            await asyncio.gather(kill(), *(change() for _ in range(24)))
            for name in jobs:
                end, accepted = await end_of(two, name), store.request(name).accepted
                assert end.status == "completed", end.error
                assert video_of(store, end) == (accepted.request.seed + len(accepted.changes)) % 8
            await until(
                lambda: not any(held for each in (one, two) for held in (each.work.in_hand, each.work.engine.held))
            )
            assert any(store.request(name).accepted.changes for name in jobs)

    run(scenario)
