"""Requests that name a session, over real sockets: HTTP, gRPC and the Python client, one replica and two."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest

from tests.serving.grpc.serving import Failing, Served, serving
from tests.serving.http.serving import Running, running
from tests.serving.in_process import CALLER
from tests.store.builders import Clock
from videogen.client import errors
from videogen.client.aio import AsyncClient
from videogen.client.sync import Client
from videogen.errors import StoreUnavailable
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.video_pb2 import VideoSpec
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub
from videogen.serving.sessions import DEFAULTS
from videogen.store.sessions import Sessions

DEFAULT = {"num_inference_steps": 3, "guidance_scale": 1.5, "metadata": {"of": "the session"}, "priority": "batch"}
RED = {"prompt": "a red circle"}


@pytest.fixture(scope="module")
def records() -> Failing:
    return Failing()


@pytest.fixture(scope="module")
def face(records: Failing) -> Iterator[Served]:
    """One replica, which speaks gRPC."""
    with serving(records=records, name="grpc") as face:
        yield face


@pytest.fixture(scope="module")
def web(records: Failing) -> Iterator[Running]:
    """Another on the same store, which speaks HTTP."""
    with running(records) as web:
        yield web


@pytest.fixture
def client(face: Served) -> Iterator[Client]:
    with Client(face.address) as client:
        yield client


@pytest.fixture
def http(web: Running) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=web.url, timeout=60) as http:
        yield http


def taken(spec: Any) -> dict[str, Any]:
    return {name: spec[name] for name in DEFAULT}


def test_a_session_fills_what_a_request_leaves_out_at_any_replica(client, http):
    session = client.create_session(DEFAULT)
    job = client.submit("a red circle", session=session.id)
    assert taken(job.spec) == DEFAULT
    own = {"num_inference_steps": 5, "guidance_scale": 1.0, "metadata": {"of": "the request"}, "priority": "standard"}
    other = client.submit("a red circle", session=session.id, **own)
    assert taken(other.spec) == own
    told = http.post("/v1/videos", json=RED | {"session": session.id, "guidance_scale": 1.25}).json()
    assert told["parameters"]["num_inference_steps"] == 3 and told["parameters"]["guidance_scale"] == 1.25
    assert told["metadata"] == DEFAULT["metadata"] and "warnings" not in told
    parts = {name: (None, value) for name, value in (RED | {"session": session.id}).items()}
    form = http.post("/v1/videos", files=parts)
    assert form.json()["parameters"]["num_inference_steps"] == 3
    assert client.get_session(session.id).videos == (form.json()["id"], told["id"], other.id, job.id)
    assert client.get_session(session.id).revision == session.revision
    assert "session" not in client.get(job.id).spec


def test_generate_and_sync_take_a_session_too(client, http):
    session = client.create_session({"num_inference_steps": 3})
    video = client.generate("a red circle", session=session.id)
    made = http.post("/v1/videos/sync", json=RED | {"session": session.id})
    assert video.job.spec["num_inference_steps"] == 3 and made.content[4:8] == b"ftyp"
    assert client.get_session(session.id).videos == (made.headers["x-video-id"], video.job.id)
    assert client.get(made.headers["x-video-id"]).spec["num_inference_steps"] == 3


def test_the_async_client_names_one(face):
    async def story() -> None:
        async with AsyncClient(face.address) as client:
            session = await client.create_session({"num_inference_steps": 3})
            job = await client.submit("a red circle", session=session.id)
            video = await client.generate("a red circle", session=session.id)
            assert job.spec["num_inference_steps"] == video.job.spec["num_inference_steps"] == 3
            assert (await client.get_session(session.id)).videos == (video.job.id, job.id)

    asyncio.run(story())


def test_a_length_in_seconds_and_a_size_go_before_the_session(client, http):
    session = client.create_session({"num_frames": 4, "fps": 4, "width": 8, "height": 8}).id
    asked = RED | {"session": session, "seconds": "2", "size": "64x64"}
    told = http.post("/v1/videos", json=asked).json()
    assert (told["seconds"], told["size"]) == ("2", "64x64")


def test_a_session_is_no_part_of_what_a_video_is(client, face):
    session = client.create_session({"num_inference_steps": 3, "guidance_scale": 1.5}).id
    filled = client.submit("a red circle", seed=7, session=session)
    plain = client.submit("a red circle", seed=7, num_inference_steps=3, guidance_scale=1.5)
    one, two = (face.store.request(job.id).accepted for job in (filled, plain))
    assert one is not None and two is not None and one.request == two.request


def test_what_is_sent_again_with_its_key_is_the_same_job_whatever_the_defaults_are_by_then(client, http):
    session, other = (client.create_session({"num_inference_steps": 3}) for _ in range(2))
    job = client.submit("a red circle", session=session.id, idempotency_key="again")
    body, key = RED | {"session": session.id}, {"idempotency-key": "again over HTTP"}
    first = http.post("/v1/videos", json=body, headers=key).json()
    client.update_session(session.id, defaults={"num_inference_steps": 5})
    again = client.submit("a red circle", session=session.id, idempotency_key="again")
    assert (again.id, again.spec["num_inference_steps"]) == (job.id, 3)
    assert http.post("/v1/videos", json=body, headers=key).json()["id"] == first["id"]
    assert sorted(client.get_session(session.id).videos) == sorted((first["id"], job.id))
    for another in (other.id, None):
        with pytest.raises(errors.InvalidRequest, match="idempotency_key"):
            client.submit("a red circle", session=another, idempotency_key="again")
    refused = http.post("/v1/videos", json=body | {"session": other.id}, headers=key)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "idempotency_key")


def test_what_is_sent_again_with_its_key_after_its_session_ended_is_the_same_job(client, http):
    session = client.create_session({"num_inference_steps": 3}).id
    job = client.submit("a red circle", session=session, idempotency_key="outlives")
    body, key = RED | {"session": session}, {"idempotency-key": "outlives over HTTP"}
    first = http.post("/v1/videos", json=body, headers=key).json()
    client.delete_session(session)
    assert client.submit("a red circle", session=session, idempotency_key="outlives").id == job.id
    assert http.post("/v1/videos", json=body, headers=key).json()["id"] == first["id"]
    with pytest.raises(errors.InvalidRequest, match="idempotency_key"):
        client.submit("a blue circle", session=session, idempotency_key="outlives")
    with pytest.raises(errors.NotFound, match="session"):
        client.submit("a red circle", session=session, idempotency_key="new")


@pytest.mark.parametrize("session", ["never-was", "", "../x", "x" * 500])
def test_a_session_that_is_not_there_is_not_found(face, client, http, session):
    with pytest.raises(errors.NotFound, match="session: there is no session"):
        client.submit("a red circle", session=session)
    with grpc.insecure_channel(face.address) as channel, pytest.raises(grpc.RpcError) as caught:
        list(VideoServiceStub(channel).Generate(pb.GenerateRequest(spec=VideoSpec(**RED), session=session)))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    for path in ("/v1/videos", "/v1/videos/sync"):
        told = http.post(path, json=RED | {"session": session})
        error = told.json()["error"]
        assert (told.status_code, error["param"], error["code"]) == (404, "session", "session_not_found")
    told = http.post("/v1/videos", json=RED | {"session": 7})
    assert (told.status_code, told.json()["error"]["param"]) == (400, "session")


def test_another_tenants_session_and_one_that_ended_are_not_found(face, client, http):
    others = face.store.sessions.create("other", {"num_inference_steps": 3}).id
    ended = client.create_session().id
    client.delete_session(ended)
    for session in (others, ended):
        with pytest.raises(errors.NotFound, match="session"):
            client.submit("a red circle", session=session)
        assert http.post("/v1/videos", json=RED | {"session": session}).status_code == 404
    assert face.store.sessions.get("other", others).videos == ()


def test_a_use_keeps_a_session_for_longer():
    clock = Clock()
    with serving(records=Failing(clock=clock)) as face, Client(face.address) as client:
        face.store.sessions.keep_s = 100.0
        used, left = client.create_session().id, client.create_session().id
        clock.pass_(80)
        client.submit("a red circle", session=used)
        clock.pass_(80)
        assert len(client.get_session(used).videos) == 1
        with pytest.raises(errors.NotFound, match="session"):
            client.submit("a red circle", session=left)


def test_a_name_that_is_no_field_of_a_request_is_refused_and_the_allowed_ones_are_listed(client, face):
    session = client.create_session({"fps": 4})
    for name in ("foo", "prompt", "tenant", "lane", "schema_version"):
        for call in (client.create_session, lambda defaults: client.update_session(session.id, defaults=defaults)):
            with pytest.raises(errors.InvalidRequest) as caught:
                call({"seed": 3, name: 1})
            assert caught.value.field == "defaults" and name in caught.value.given
            assert all(allowed in caught.value.allowed for allowed in DEFAULTS)
    assert client.get_session(session.id).defaults == {"fps": 4}


def test_a_value_is_checked_when_a_request_takes_it(client):
    session = client.create_session({"width": 65}).id
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit("a red circle", session=session)
    assert caught.value.field == "width" and client.get_session(session).videos == ()
    assert client.submit("a red circle", session=session, width=64).spec["width"] == 64


def test_what_else_an_older_session_holds_is_in_nobodys_way(client, face):
    session = face.store.sessions.create("default", {"foo": 1, "tenant": "other", "num_inference_steps": 3}).id
    assert client.submit("a red circle", session=session).spec["num_inference_steps"] == 3
    assert client.update_session(session, defaults={"foo": None, "tenant": None}).defaults == {"num_inference_steps": 3}


def test_a_job_stands_where_its_session_cannot_list_it(client, monkeypatch, caplog):
    def away(*given: Any) -> None:
        raise StoreUnavailable("it is away")

    session = client.create_session({"num_inference_steps": 3}).id
    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(Sessions, "add_video", away)
        job = client.submit("a red circle", session=session)
    assert [seen.status for seen in client.watch(job.id)][-1] == "completed"
    assert job.id in caplog.text and client.get_session(session).videos == ()


def test_a_field_that_is_none_is_left_out(face):
    session = face.run(face.service.sessions.create, CALLER, {"num_inference_steps": 3})
    fields = RED | {"num_inference_steps": None}
    job = face.run(lambda: face.service.submit(fields, CALLER, session=session.id))
    assert job.request.num_inference_steps == 3
