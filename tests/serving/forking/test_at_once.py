"""Changes that meet each other, a caller who goes away, a device that stands still, or the end of the service."""

import asyncio
import dataclasses
import os
import signal
import time

import pytest

from tests.serving.forking.changing import BLUE, DEVICE, LONG, NEW, made, steps_of, video_of
from tests.serving.in_process import CALLER, end_of, run, served, until
from videogen.errors import Draining, EngineUnavailable
from videogen.serving.making.in_hand import Making


def test_two_changes_of_one_job_at_once_both_hold(store):
    async def scenario():
        async with made(store, 2) as (service, name):
            await asyncio.gather(
                service.change(name, BLUE, CALLER), service.change(name, {"guidance_scale": 4.0}, CALLER)
            )
            end = await end_of(service, name)
            asked = store.request(name).accepted.at_last
            assert (asked.prompt, asked.guidance_scale) == ("a blue ball", 4.0)
            assert end.status == "completed" and video_of(store, end) == NEW + 1

    run(scenario)


def test_the_second_of_two_changes_is_of_what_the_first_made(store):
    async def scenario():
        async with made(store, 2) as (service, name):
            blue = asyncio.ensure_future(service.change(name, BLUE, CALLER))
            await asyncio.sleep(0.01)
            back = await service.change(name, {"prompt": LONG["prompt"]}, CALLER)
            assert (await blue).changes[0].prompt == BLUE["prompt"]
            assert [change.prompt for change in back.changes] == [BLUE["prompt"], LONG["prompt"]]
            await service.cancel(name, CALLER)

    run(scenario)


def test_who_goes_away_while_it_is_changed_leaves_it_whole(store):
    async def scenario():
        async with made(store, 2) as (service, name):
            changing = asyncio.ensure_future(service.change(name, BLUE, CALLER))
            await asyncio.sleep(0.01)
            changing.cancel()
            end = await end_of(service, name)
            assert end.status == "completed" and video_of(store, end) == NEW
            assert not service.work.engine.held

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
        async with made(store, 1) as (service, name):
            await until(lambda: service.maker.stats)
            pid = service.work.engine.pid
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(0.1)  # what it told before is heard
            service.maker.stats = dataclasses.replace(service.maker.stats, yielded=True)
            with pytest.raises(EngineUnavailable, match="others hold the device"):
                await service.change(name, BLUE, CALLER)
            assert (await service.change(name, {"priority": "batch"}, CALLER)).request.priority == "batch"
            os.kill(pid, signal.SIGCONT)
            await service.cancel(name, CALLER)

    run(scenario)


def test_a_change_that_is_under_way_when_the_service_ends_is_written_and_keeps_no_lease(store):
    async def scenario():
        async with made(store, 2, grace_s=0.0) as (service, name):
            claim, claiming = store.claim, asyncio.Event()
            loop = asyncio.get_running_loop()

            def later(*args):
                loop.call_soon_threadsafe(claiming.set)
                time.sleep(1.0)
                return claim(*args)

            store.claim = later
            changing = asyncio.ensure_future(service.forking.change(name, BLUE, CALLER))
            await claiming.wait()
        store.claim = claim
        assert (await changing).accepted.changes
        assert [one.request.id for one in store.claim([name], "other", 5.0)] == [name]
        with pytest.raises(Draining):
            await service.forking._changed(store.request(name), BLUE)
        for ask in (service.change(name, BLUE, CALLER), service.get(name, CALLER)):  # its threads are gone
            with pytest.raises(Draining, match="another replica"):
                await ask

    run(scenario)
