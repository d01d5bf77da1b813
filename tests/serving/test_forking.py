"""Jobs that are asked otherwise while they are made: here, in the queue, by another replica, and across deaths."""

import asyncio
import contextlib
import dataclasses
import os
import random
import signal
import time
import urllib.request

import pytest

from tests.serving.in_process import CALLER, end_of, run, served, until
from tests.serving.running import serving
from videogen.errors import Draining, EngineUnavailable, InvalidRequest, RecordNotFound, StoreConflict
from videogen.serving.engine.messages import Synthetic
from videogen.serving.engine.synthetic import sample
from videogen.serving.jobs import Caller
from videogen.serving.making.in_hand import Making
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.store import Store

DEVICE = Synthetic(fixed_s=0.06, each_s=0.001)
"""Two of its steps take longer than those that may be taken together."""
LONG = {"prompt": "a red ball", "num_inference_steps": 30, "seed": 0}
BLUE = {"prompt": "a blue ball"}
OLD, NEW = 0, 1
"""Which sample a device without networks makes of seed 0: as asked first, and changed once."""


@pytest.fixture
def store() -> Store:
    return Store(MemoryRecordStore())


async def steps_of(service, job_id: str, at_least: int) -> None:
    async def there() -> bool:
        return (await service.get(job_id, CALLER)).progress * 30 >= at_least

    while not await there():
        await asyncio.sleep(0.01)


def video_of(store: Store, job) -> int:
    """Which of the device's samples it is."""
    data = store.read_video(job.video.digest)
    return next(number for number in range(8) if sample(number) == data)


def gated(service) -> None:
    """What the device makes may be shared, as what passed its gates."""
    service.versions.admit(dataclasses.replace(service.versions.current, ungated=False))


def kill_engine(service) -> None:
    pid = service.work.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def test_a_job_in_flight_goes_on_otherwise_from_its_next_step(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 3)

            async def watch():
                return [one async for one in service.watch(job.id, CALLER)]

            watching = asyncio.ensure_future(watch())
            changed = await service.change(job.id, BLUE, CALLER)
            [change] = changed.changes
            assert change.step >= 3 and change.prompt == "a blue ball" and changed.request.prompt == "a red ball"
            assert changed.status == "in_progress" and changed.progress >= change.step / 30
            assert len(service.work.in_hand) == 1
            end = await end_of(service, job.id)
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


def test_a_death_of_the_engine_between_change_and_end_gives_the_changed_video(store):
    async def scenario():
        async with served(store, DEVICE, Making(restart_s=(0.05, 1.0))) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 3)
            changed = await service.change(job.id, BLUE, CALLER)
            await steps_of(service, job.id, changed.changes[0].step + 2)
            kill_engine(service)
            end = await end_of(service, job.id)
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


def test_two_changes_of_one_job_at_once_both_hold(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 2)
            await asyncio.gather(
                service.change(job.id, BLUE, CALLER), service.change(job.id, {"guidance_scale": 4.0}, CALLER)
            )
            end = await end_of(service, job.id)
            asked = store.request(job.id).accepted.at_last
            assert (asked.prompt, asked.guidance_scale) == ("a blue ball", 4.0)
            assert end.status == "completed" and video_of(store, end) == NEW + 1

    run(scenario)


def test_who_goes_away_while_it_is_changed_leaves_it_whole(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 2)
            changing = asyncio.ensure_future(service.change(job.id, BLUE, CALLER))
            await asyncio.sleep(0.01)
            changing.cancel()
            end = await end_of(service, job.id)
            assert end.status == "completed" and video_of(store, end) == NEW
            assert not service.work.engine.held

    run(scenario)


def test_a_fork_may_be_cancelled(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 2)
            await service.change(job.id, BLUE, CALLER)
            assert (await service.cancel(job.id, CALLER)).state == "cancelled"
            await until(lambda: not service.work.in_hand and not service.work.engine.held)

    run(scenario)


def test_what_cannot_be_changed_is_refused_and_says_what_can(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            for fields, told in (
                ({"seed": 3}, "noise"),
                ({"num_inference_steps": 3}, "schedule"),
                ({"size": "64x64"}, "shape"),
                ({"colour": "blue"}, "guidance_scale"),
                ({}, "priority"),
                ({"guidance_scale": 0.5}, "1 to"),
                ({"prompt": " "}, "description"),
                ({"priority": "soon"}, "standard"),
                ({"deadline": 0.001}, "passed"),
            ):
                with pytest.raises(InvalidRequest, match=told):
                    await service.change(job.id, fields, CALLER)
            with pytest.raises(RecordNotFound):
                await service.change(job.id, BLUE, Caller("other", None, frozenset({"user"})))
            same = await service.change(job.id, {"prompt": "a red ball", "priority": "standard"}, CALLER)
            assert same.changes == () and not same.has_ended
            await service.cancel(job.id, CALLER)
            with pytest.raises(StoreConflict, match="is cancelled"):
                await service.change(job.id, BLUE, CALLER)
            with pytest.raises(StoreConflict, match="is cancelled"):
                await service.change(job.id, {"priority": "batch"}, CALLER)

    run(scenario)


def told_of(service) -> list:
    """Priorities and deadlines that the engine process is told of from now on, by job."""
    engine, told = service.work.engine, []
    change, fork, given = engine.change, engine.fork, engine.run

    def changes(job_id, *, priority=None, deadline_in=None):
        told.append((job_id, priority, deadline_in))
        change(job_id, priority=priority, deadline_in=deadline_in)

    async def forks(source, job, fields):
        told.append((job.id, job.priority, job.deadline_in))
        return await fork(source, job, fields)

    def gives(job):
        told.append((job.id, job.priority, job.deadline_in))
        given(job)

    engine.change, engine.fork, engine.run = changes, forks, gives
    return told


def test_what_is_made_is_as_urgent_as_the_most_urgent_who_waits_for_it(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            gated(service)
            first = await service.submit({**LONG, "priority": "interactive"}, CALLER)
            joined = await service.submit({**LONG, "priority": "interactive", "deadline": 60.0}, CALLER)
            await steps_of(service, first.id, 1)
            told = told_of(service)
            await service.change(first.id, {"priority": "batch"}, CALLER)
            assert told.pop()[:2] == (first.id, "interactive"), "the other still waits for it"
            await service.change(joined.id, {"priority": "batch"}, CALLER)
            assert told.pop()[:2] == (first.id, "batch")
            await service.change(joined.id, {"priority": "interactive"}, CALLER)
            await service.change(first.id, BLUE, CALLER)
            job_id, priority, deadline_in = told.pop()
            assert (job_id, priority) == (joined.id, "interactive") and 0 < deadline_in <= 60.0
            for job in (first, joined):
                await service.cancel(job.id, CALLER)

    run(scenario)


def test_whatever_the_engine_is_told_of_a_deadline_leaves_time_to_publish(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            service.work.speed.publish_s, told = 10.0, told_of(service)
            job = await service.submit({**LONG, "deadline": 20.0}, CALLER)
            await steps_of(service, job.id, 1)
            await service.change(job.id, {"deadline": 21.0}, CALLER)
            await service.change(job.id, BLUE, CALLER)
            assert len(told) == 3 and all(deadline_in <= 11.0 for _, _, deadline_in in told)
            await service.cancel(job.id, CALLER)

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


def test_the_second_of_two_changes_is_of_what_the_first_made(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 2)
            blue = asyncio.ensure_future(service.change(job.id, BLUE, CALLER))
            await asyncio.sleep(0.01)
            back = await service.change(job.id, {"prompt": LONG["prompt"]}, CALLER)
            assert (await blue).changes[0].prompt == BLUE["prompt"]
            assert [change.prompt for change in back.changes] == [BLUE["prompt"], LONG["prompt"]]
            await service.cancel(job.id, CALLER)

    run(scenario)


def test_a_change_that_waits_for_a_step_keeps_no_other_video_waiting(store):
    async def scenario():
        async with served(store, DEVICE, Making(ahead_s=0.0, least_ahead=1, most_ahead=1)) as service:
            running = await service.submit(LONG, CALLER)
            await steps_of(service, running.id, 1)
            waiting = await service.submit({**LONG, "seed": 5}, CALLER)
            pid = service.work.engine.pid
            os.kill(pid, signal.SIGSTOP)
            slow = asyncio.ensure_future(service.change(running.id, BLUE, CALLER))
            await asyncio.sleep(0.2)
            changed = await service.change(waiting.id, BLUE, CALLER)
            assert changed.changes and not slow.done()
            os.kill(pid, signal.SIGCONT)
            assert (await slow).changes
            for job in (running, waiting):
                await service.cancel(job.id, CALLER)

    run(scenario)


def test_what_shows_on_a_device_that_others_hold_cannot_be_changed_for_now(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 1)
            await until(lambda: service.maker.stats)
            pid = service.work.engine.pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(0.1)  # what it told before is heard
            service.maker.stats = dataclasses.replace(service.maker.stats, yielded=True)
            with pytest.raises(EngineUnavailable, match="others hold the device"):
                await service.change(job.id, BLUE, CALLER)
            assert (await service.change(job.id, {"priority": "batch"}, CALLER)).request.priority == "batch"
            os.kill(pid, signal.SIGCONT)
            await service.cancel(job.id, CALLER)

    run(scenario)


def test_where_a_version_is_not_served_when_it_is_made_can_be_changed_but_not_what_it_shows(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            service.work.engine.pause()
            job = await service.submit(LONG, CALLER)
            loaded = dict(service.versions.loaded)
            service.versions.loaded.clear()
            changed = await service.change(job.id, {"priority": "interactive"}, CALLER)
            assert changed.request.priority == "interactive"
            with pytest.raises(EngineUnavailable, match="not served by this replica"):
                await service.change(job.id, {**BLUE, "priority": "batch"}, CALLER)
            assert store.request(job.id).priority == "interactive", "half a change is none"
            service.versions.loaded.update(loaded)
            await service.cancel(job.id, CALLER)

    run(scenario)


def test_a_change_that_is_under_way_when_the_service_ends_is_written_and_keeps_no_lease(store):
    async def scenario():
        async with served(store, DEVICE, grace_s=0.0) as service:
            job = await service.submit(LONG, CALLER)
            await steps_of(service, job.id, 2)
            claim, claiming = store.claim, asyncio.Event()
            loop = asyncio.get_running_loop()

            def later(*args):
                loop.call_soon_threadsafe(claiming.set)
                time.sleep(1.0)
                return claim(*args)

            store.claim = later
            changing = asyncio.ensure_future(service.forking.change(job.id, BLUE, CALLER))
            await claiming.wait()
        store.claim = claim
        assert (await changing).accepted.changes
        assert [one.request.id for one in store.claim([job.id], "other", 5.0)] == [job.id]
        with pytest.raises(Draining):
            await service.forking._changed(store.request(job.id), BLUE)
        for ask in (service.change(job.id, BLUE, CALLER), service.get(job.id, CALLER)):  # its threads are gone
            with pytest.raises(Draining, match="another replica"):
                await ask

    run(scenario)


def test_a_deadline_that_is_moved_is_the_one_that_counts(store):
    async def scenario():
        async with served(store, DEVICE) as service:
            job = await service.submit({**LONG, "num_inference_steps": 50}, CALLER)
            await service.change(job.id, {"deadline": 1.0}, CALLER)
            end = await end_of(service, job.id)
            assert end.error.code == "deadline_exceeded"

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
