"""A job that is asked otherwise over gRPC, by the sync and the async client."""

import asyncio
import time

import pytest

from tests.serving.grpc.serving import serving
from videogen.client import errors
from videogen.client.aio import AsyncClient
from videogen.client.sync import Client
from videogen.serving.engine.messages import Synthetic

LONG = {"num_inference_steps": 50, "seed": 0}


@pytest.fixture(scope="module")
def served():
    with serving(Synthetic(fixed_s=0.1, each_s=0.0)) as one:
        yield one


@pytest.fixture
def client(served):
    with Client(served.address) as one:
        yield one


def begun(client):
    job = client.submit("a red ball", **LONG)
    while client.get(job.id).progress < 0.04:
        time.sleep(0.02)
    return job.id


def test_a_running_job_is_changed_and_tells_from_which_step_on(client):
    name = begun(client)
    job = client.change(name, prompt="a blue ball", guidance_scale=2.5, priority="interactive", deadline=600)
    [change] = job.changes
    assert change == {"step": change["step"], "prompt": "a blue ball", "guidance_scale": 2.5} and change["step"] >= 2
    assert job.spec["prompt"] == "a red ball"
    assert (job.spec["priority"], job.spec["deadline"]) == ("interactive", 600)
    end = list(client.watch(name))[-1]
    assert end.status == "completed" and end.changes == job.changes and end.usage.cache == "miss"
    with pytest.raises(errors.Conflict, match="is done"):
        client.change(name, prompt="a green ball")


def test_what_cannot_be_changed_is_refused(client):
    name = client.submit("a red ball", **LONG).id
    with pytest.raises(errors.InvalidRequest, match="guidance_scale"):
        client.change(name, seed=5)  # told by the client: the message has no such field
    with pytest.raises(errors.InvalidRequest) as caught:
        client.change(name, guidance_scale=0.5)
    assert caught.value.field == "guidance_scale"
    with pytest.raises(errors.InvalidRequest, match="priority"):
        client.change(name)
    with pytest.raises(errors.NotFound):
        client.change("none", prompt="a blue ball")
    client.cancel(name)


def test_the_async_client_has_the_verb(served, client):
    name = begun(client)

    async def change():
        async with AsyncClient(served.address) as one:
            return await one.change(name, negative_prompt="green", guidance_scale=3.0)

    job = asyncio.run(change())
    assert job.changes[0]["negative_prompt"] == "green"
    client.cancel(name)
