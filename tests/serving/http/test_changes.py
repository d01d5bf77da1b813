"""A job that is asked otherwise over HTTP, on a real socket."""

import time

import httpx
import pytest

from tests.serving.http.serving import running
from videogen.serving.engine.messages import Synthetic

LONG = {"prompt": "a red ball", "num_inference_steps": 50, "seed": 0}


@pytest.fixture(scope="module")
def server():
    with running(device=Synthetic(fixed_s=0.1, each_s=0.0)) as one:
        yield one


@pytest.fixture
def http(server):
    with httpx.Client(base_url=server.url, timeout=30) as client:
        yield client


def begun(http):
    job = http.post("/v1/videos", json=LONG).json()
    while http.get(f"/v1/videos/{job['id']}").json()["progress"] < 4:
        time.sleep(0.02)
    return job["id"]


def test_a_running_job_is_changed_and_tells_from_which_step_on(http):
    name = begun(http)
    answer = http.post(f"/v1/videos/{name}/change", json={"prompt": "a blue ball", "guidance_scale": 2.5})
    assert answer.status_code == 200, answer.text
    job = answer.json()
    [change] = job["changes"]
    assert change == {"step": change["step"], "prompt": "a blue ball", "guidance_scale": 2.5} and change["step"] >= 2
    assert job["id"] == name and job["status"] == "in_progress" and job["prompt"] == "a red ball"
    form = http.post(f"/v1/videos/{name}/change", data={"guidance_scale": "1", "priority": "interactive"})
    assert [one["guidance_scale"] for one in form.json()["changes"]] == [2.5, 1.0]
    with http.stream("GET", f"/v1/videos/{name}/events") as events:
        assert "video.completed" in "".join(events.iter_text())
    done = http.get(f"/v1/videos/{name}").json()
    assert len(done["changes"]) == 2 and done["usage"]["cache"] == "miss"
    refused = http.post(f"/v1/videos/{name}/change", json={"prompt": "a green ball"})
    assert refused.status_code == 409 and "is done" in refused.json()["error"]["message"]
    remix = http.post(f"/v1/videos/{name}/remix", json={"prompt": "a green ball"}).json()
    assert remix["parameters"]["guidance_scale"] == 1.0 and remix["changes"] == []
    http.post(f"/v1/videos/{remix['id']}/cancel")


@pytest.mark.parametrize(
    ("body", "field", "told"),
    [
        ({"num_inference_steps": 5}, "num_inference_steps", "schedule"),
        ({"size": "64x64"}, "size", "shape"),
        ({"seconds": "2"}, "seconds", "shape"),
        ({"seed": 4}, "seed", "noise"),
        ({"colour": "blue"}, "colour", "prompt, negative_prompt, guidance_scale, priority, deadline"),
        ({"guidance_scale": 99}, "guidance_scale", "a number from 1"),
        ({"prompt": 7}, "prompt", "text"),
        ({}, "body", "prompt, negative_prompt"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_what_can(http, body, field, told):
    name = http.post("/v1/videos", json=LONG).json()["id"]
    answer = http.post(f"/v1/videos/{name}/change", json=body)
    error = answer.json()["error"]
    assert answer.status_code == 400 and error["param"] == field and told in error["message"], error
    assert http.post(f"/v1/videos/{name}/cancel").json()["cancelled"]


def test_a_job_that_is_not_there(http):
    assert http.post("/v1/videos/none/change", json={"prompt": "a blue ball"}).status_code == 404
