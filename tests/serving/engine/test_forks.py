"""Parameters that change in mid-flight: from the next boundary on, and the same video as made anew with that change."""

import asyncio
import dataclasses
import os
import signal
import time

import pytest

from tests.serving.engine.running import QUICK, SYNTHETIC, engine, job, request
from tests.serving.engine.test_networks import GATE_DB, accepted, tiny
from videogen.devices import cpu
from videogen.errors import EngineError, EngineUnavailable
from videogen.media.mp4 import decode_mp4
from videogen.models.wan import WanModel
from videogen.quality.psnr import psnr
from videogen.scheduling.costs import Table
from videogen.serving.engine.loop import Loop
from videogen.serving.engine.messages import Answer, Fork, FromEngine, Stepped
from videogen.serving.engine.versions import Loader
from videogen.serving.engine_process import Died, EngineConfig, Failed, Finished, Progress, Stats, Synthetic

__all__ = ["tiny"]
STEADY = EngineConfig(synthetic=Synthetic(fixed_s=0.06, each_s=0.001))
OTHER = "a large blue ring moving down on a white background"


def steps_of(told, one):
    return [event.steps_done for event in told.of(Progress) if event.id == one.id]


async def fork(process, one, fields, of=None):
    """The fork of `one`, or of another's job that makes its video, and the request that it stands for."""
    forked = await process.fork((of or one).id, job(one), fields)
    assert forked is not None
    return forked, one.changed(forked.step, fields)


class Slow(WanModel):
    """Its steps take so long that none are taken together."""

    def step(self, generations, count=1):
        time.sleep(0.03 * count)
        super().step(generations, count)


def ended(messages, name):
    return next((one for one in messages if isinstance(one, Finished | Failed) and one.id == name), None)


def until(condition):
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.002)


@pytest.mark.parametrize(
    "fields", [{"prompt": OTHER}, {"prompt": OTHER, "guidance_scale": 3.0}], ids=["text", "guided"]
)
def test_a_fork_in_flight_gives_what_is_made_anew_with_its_change(tiny, fields):
    """In this process, with networks: those of the test's model are too quick to be caught in flight."""
    messages: list[FromEngine] = []
    loaded = Loader(tiny.config, cpu(), 1).load(tiny.version, lambda text: None, alone=False)
    loop = Loop(tiny.config, 1, messages.append)
    slow = {guided: Table(dict.fromkeys(table.step, 0.03), table.rest) for guided, table in loaded.tables.items()}
    loop.add(dataclasses.replace(loaded, model=Slow(tiny.folder, loaded.model.engine), tables=slow))
    one, *beside = (accepted(tiny, seed, num_inference_steps=20, guidance_scale=1.0) for seed in range(3))
    for each in (one, *beside):
        loop.run(job(each))

    def steps(name):
        told = [step for message in messages if isinstance(message, Stepped) for step in message.steps]
        return [done for job_id, done, _ in told if job_id == name]

    until(lambda: len(steps(one.id)) >= 3)
    loop.fork(Fork(7, one.id, dataclasses.replace(job(one), id="fork"), fields))
    until(lambda: any(isinstance(message, Answer) for message in messages))
    [step] = [message.value for message in messages if isinstance(message, Answer)]
    assert 3 <= step < 15
    loop.begin("fork", instead=True)
    assert [loop.schedule.scheduler._live.jobs[name].is_new for name in ("fork", beside[0].id)] == [False, True]
    until(lambda: all(ended(messages, name) for name in ("fork", *(each.id for each in beside))))
    taken = steps("fork")
    assert taken == sorted(set(taken)) and taken[0] > step and taken[-1] == 20, "nothing is made anew"
    in_flight = ended(messages, "fork")
    assert isinstance(in_flight, Finished) and in_flight.facts["device_seconds"] > 0
    assert sum(in_flight.facts["batches"].values()) >= 20
    loop.run(dataclasses.replace(job(one.changed(step, fields)), id="anew"))
    loop.run(dataclasses.replace(job(one), id="old"))
    until(lambda: ended(messages, "anew") and ended(messages, "old"))
    frames = {name: decode_mp4(ended(messages, name).mp4) for name in ("anew", "old")}
    assert psnr(decode_mp4(in_flight.mp4), frames["anew"]) > GATE_DB
    assert ended(messages, one.id).code == "cancelled"


def test_the_one_it_is_made_of_goes_on_as_it_was_for_whoever_joined_it():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            one, joined = request(0, num_inference_steps=20), request(0, num_inference_steps=20)
            process.run(job(one))
            await told.until(lambda: steps_of(told, one)[-1:] >= [2])
            mine, _ = await fork(process, one, {"prompt": "a blue ball"})
            process.rename(one.id, joined.id)
            assert process.begin(mine, instead=False)
            assert process.held == {one.id, joined.id}
            await told.until(lambda: {one.id, joined.id} <= told.ends.keys())
            assert steps_of(told, joined)[-1] == 20 and steps_of(told, joined)[0] >= mine.step
            videos = {name: end.mp4 for name, end in told.ends.items()}
            told.events.clear()
            process.run(job(request(0, num_inference_steps=20)))
            await told.until(lambda: told.ends)
            [old] = told.ends.values()
            assert videos[joined.id] == old.mp4 != videos[one.id]

    asyncio.run(scenario())


def test_who_joined_another_takes_a_fork_of_that():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            one, joined = request(0, num_inference_steps=20), request(0, num_inference_steps=20)
            process.run(job(one))
            await told.until(lambda: steps_of(told, one)[-1:] >= [2])
            theirs, changed = await fork(process, joined, {"prompt": "a blue ball"}, of=one)
            assert changed.id == joined.id
            assert process.begin(theirs, instead=False)
            await told.until(lambda: {one.id, joined.id} <= told.ends.keys())
            assert steps_of(told, one) == list(range(1, 21))
            assert steps_of(told, joined)[0] > theirs.step

    asyncio.run(scenario())


def test_it_waits_to_begin_and_may_be_forgone():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            one = request(0, num_inference_steps=20)
            process.run(job(one))
            await told.until(lambda: told.of(Progress))
            forked, _ = await fork(process, one, {"prompt": "a blue ball"})
            reached = steps_of(told, one)[-1]
            await told.until(lambda: steps_of(told, one)[-1] > reached + 2)
            process.forgo(forked)
            assert not process.begin(forked, instead=True)
            await told.until(lambda: told.ends)
            assert steps_of(told, one) == list(range(1, 21)) and len(told.ends) == 1
            assert await process.fork(one.id, job(one), {"prompt": "a blue ball"}) is None, "it has ended"
            await told.until(lambda: told.of(Stats)[-1].running == 0)
            assert await process.stop(20.0) == frozenset()

    asyncio.run(scenario())


def test_before_its_first_step_it_is_changed_from_step_0_on():
    async def scenario():
        async with engine(QUICK, SYNTHETIC) as (process, told):
            process.pause()
            one = request(0)
            process.run(job(one))
            forked, changed = await fork(process, one, {"prompt": "a blue ball", "guidance_scale": 2.0})
            assert forked.step == 0 and changed.request.prompt == "a blue ball"
            assert process.begin(forked, instead=True)
            process.resume()
            await told.until(lambda: told.ends)
            assert isinstance(told.ends[one.id], Finished)

    asyncio.run(scenario())


def test_a_text_that_cannot_be_read_leaves_the_job_as_it_was(tiny):
    async def scenario():
        async with engine(tiny.config, tiny.version) as (process, told):
            one = accepted(tiny, 1, num_inference_steps=50)
            process.run(job(one))
            await told.until(lambda: told.of(Progress))
            with pytest.raises(EngineError, match="zebra"):
                await process.fork(one.id, job(one), {"prompt": "a zebra"})
            await told.until(lambda: told.ends)
            assert isinstance(told.ends[one.id], Finished)

    asyncio.run(scenario())


def test_what_is_at_fault_in_the_process_is_no_fault_of_what_was_asked():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            one = request(num_inference_steps=20)
            process.run(job(one))
            await told.until(lambda: len(steps_of(told, one)) > 1)
            elsewhere = dataclasses.replace(job(one), version_digest="e" * 64)
            with pytest.raises(EngineUnavailable, match="is not loaded"):
                await process.fork(one.id, elsewhere, {"prompt": OTHER})

    asyncio.run(scenario())


def test_a_death_before_it_begins_is_told_and_a_cancel_ends_it():
    async def scenario():
        async with engine(STEADY, SYNTHETIC) as (process, told):
            one = request(0, num_inference_steps=20)
            process.run(job(one))
            await told.until(lambda: told.of(Progress))
            forked, changed = await fork(process, one, {"prompt": "a blue ball"})
            os.kill(process.pid, signal.SIGKILL)
            await told.until(lambda: told.of(Died))
            assert told.of(Died)[0].held == {one.id}
            assert not process.begin(forked, instead=True)
            await process.start()
            await process.load(SYNTHETIC)
            process.run(job(changed))
            await told.until(lambda: steps_of(told, one)[-1:] == [2])
            again, _ = await fork(process, changed, {"guidance_scale": 2.0})
            assert process.begin(again, instead=True)
            process.cancel(one.id)
            await told.until(lambda: told.ends)
            assert told.ends[one.id] == Failed(one.id, "it was cancelled", "cancelled", retry=False)

    asyncio.run(scenario())


def test_priority_and_deadline_change_while_it_waits_for_its_text_too():
    async def scenario():
        config = dataclasses.replace(STEADY, streams=1)
        async with engine(dataclasses.replace(config, batch_max=1), SYNTHETIC) as (process, told):
            slow = [request(seed, num_inference_steps=10, guidance_scale=2.0) for seed in range(4)]
            urgent = request(9, num_inference_steps=10)
            for one in slow:
                process.run(job(one))
            process.run(job(urgent, priority="batch"))
            process.change(urgent.id, priority="interactive")
            await told.until(lambda: len(told.ends) == 5)
            assert list(told.ends)[-1] != urgent.id

    asyncio.run(scenario())
