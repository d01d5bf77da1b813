"""What of a job cannot be changed, at all or for now, and what the refusal says."""

import pytest

from tests.serving.forking.changing import BLUE, DEVICE, LONG
from tests.serving.in_process import CALLER, run, served
from videogen.errors import EngineUnavailable, InvalidRequest, RecordNotFound, StoreConflict
from videogen.serving.jobs import Caller


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
