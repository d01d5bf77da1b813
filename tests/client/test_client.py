"""The Python client, sync and async, against a real server over loopback."""

import asyncio
import dataclasses
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.serving.grpc.serving import SLOW, Failing, Served, serving
from tests.serving.in_process import CALLER
from tests.serving.test_lending import leases, sealed
from videogen.client import errors
from videogen.client.aio import AsyncClient
from videogen.client.results import Executed, Job
from videogen.client.sync import Client
from videogen.serving.grpc.server import GrpcServer
from videogen.serving.making.in_hand import Making
from videogen.serving.making.maker import Maker
from videogen.serving.versions.preparing import Prepared, synthetic
from videogen.serving.versions.swapping import Swapper
from videogen.settings import ServingLimits
from videogen.store.api_keys import ApiKeys
from videogen.store.rate_limits import RateLimit
from videogen.store.records import Champion

LONG = {"num_inference_steps": 50}


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture(scope="module")
def slow() -> Iterator[Served]:
    """Its videos take a second and more."""
    with serving(SLOW) as slow:
        yield slow


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.address) as client:
        yield client


def calls_of(monkeypatch: pytest.MonkeyPatch, served: Served, name: str) -> list[Any]:
    """What reaches the service from now on."""
    method, calls = getattr(served.service, name), []

    def call(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return method(*given, **named)

    monkeypatch.setattr(served.service, name, call)
    return calls


def ended(served: Served, job_id: str) -> Callable[[], bool]:
    return lambda: served.store.request(job_id).state == "done"


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.01)


def test_generate_tells_progress_and_gives_the_video(slow, tmp_path):
    seen: list[Job] = []
    metadata = {"n": 3, "x": 0.5, "who": "me", "ok": True, "nothing": None}
    asked = {"seed": 3, "num_inference_steps": 8, "priority": "interactive", "metadata": metadata}
    with Client(slow.address) as client:
        video = client.generate("a red circle", on_progress=seen.append, **asked)
    assert b"ftyp" in video.data[:12] and video.save(tmp_path / "v.mp4").read_bytes() == video.data
    shares = [job.progress for job in seen]
    assert seen[0].status == "queued" and shares == sorted(shares) and len(shares) > 3 and shares[-1] > 0.5
    job = video.job
    assert (job.status, job.state, job.progress, job.model_version) == ("completed", "done", 1.0, "synthetic@1")
    assert job.spec["seed"] == 3 and job.spec["width"] == 64 and job.spec["priority"] == "interactive"
    assert job.spec["metadata"] == metadata and type(job.spec["metadata"]["n"]) is int
    assert job.usage is not None and (job.usage.cost_usd, job.usage.cache) == (None, "miss")
    assert job.usage.gpu_seconds > 0 and job.provenance["request_id"] == job.id
    assert job.video_digest == hashlib.sha256(video.data).hexdigest() and job.video_size == len(video.data)
    assert abs(job.created_at - time.time()) < 60 and job.completed_at is not None


def test_a_job_that_waits_tells_its_place():
    with serving(SLOW, making=Making(most_ahead=1)) as served, Client(served.address) as client:
        first = client.submit("a red circle", **LONG)
        jobs = [client.get(client.submit("a red circle").id) for _ in range(2)]
        assert jobs[1].queue_position == jobs[0].queue_position + 1
        assert 0 < jobs[0].eta_seconds <= jobs[1].eta_seconds
        assert client.get(first.id).queue_position is None


def test_submit_watch_get_content_remix_delete(client):
    job = client.submit("a red circle", seed=2**53 - 1)
    assert job.spec["seed"] == 2**53 - 1
    states = [seen.status for seen in client.watch(job.id)]
    assert states[0] in ("queued", "in_progress") and states[-1] == "completed"
    assert client.get(job.id).status == "completed"
    video = client.content(job.id)
    assert hashlib.sha256(video).hexdigest() == client.get(job.id).video_digest
    assert client.content(job.id, start=90, stop=len(video) - 90) == video[90:-90]
    assert client.content(job.id, start=len(video)) == b""
    other = client.remix(job.id, "a blue square")
    assert (other.remixed_from, other.spec["seed"], other.spec["prompt"]) == (job.id, 2**53 - 1, "a blue square")
    client.delete(other.id)
    with pytest.raises(errors.NotFound, match="no video"):
        client.get(other.id)


def test_pages_follow_each_other_in_both_orders():
    with serving() as served, Client(served.address) as client:
        ids = [client.submit("a red circle").id for _ in range(5)]
        for order, expected in (("asc", ids), ("desc", ids[::-1])):
            found, token = [], None
            while True:
                page = client.list(limit=2, page_token=token, order=order)
                found += [job.id for job in page.jobs]
                token = page.next_page_token
                if token is None:
                    break
            assert found == expected
        with pytest.raises(errors.InvalidRequest) as caught:
            client.list(limit=101)
        assert (caught.value.field, caught.value.given) == ("page_size", "101")


def test_errors_name_field_given_and_allowed(client):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.generate("a red circle", width=65)
    assert (caught.value.field, caught.value.given) == ("width", "65") and "64" in caught.value.allowed
    assert caught.value.code == "INVALID_ARGUMENT" and caught.value.reason == "INVALID_REQUEST"
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit("a red circle", widht=64)
    assert caught.value.field == "widht" and "width" in caught.value.allowed
    with pytest.raises(errors.InvalidRequest, match="seed"):
        client.submit("a red circle", seed="three")
    with pytest.raises(errors.InvalidRequest, match="priority"):
        client.submit("a red circle", priority="now")
    with pytest.raises(errors.InvalidRequest, match=r"priority: got .*; allowed: one of interactive"):
        client.submit("a red circle", priority=["batch"])
    with pytest.raises(errors.InvalidRequest, match="metadata"):
        client.submit("a red circle", metadata={"x": object()})


def test_overload_says_when_to_come_again(served, client, monkeypatch):
    calls = calls_of(monkeypatch, served, "submit")
    with pytest.raises(errors.Overloaded, match="deadline") as caught:
        client.generate("a red circle", deadline=0.001)
    assert caught.value.retry_after_s > 0 and len(calls) == 1, "it is not asked again"
    with serving(limits=ServingLimits(tenant=RateLimit(1 / 3600, burst=1))) as limited:
        with Client(limited.address) as other:
            other.submit("a red circle")
            with pytest.raises(errors.Overloaded) as caught:
                other.generate("a red circle")
    assert 3500 < caught.value.retry_after_s <= 3600


def test_an_api_key_decides_whose_jobs_one_sees():
    records = Failing()
    keys = {name: ApiKeys(records).create(name)[0] for name in ("alice", "bob")}
    with (
        serving(records=records) as served,
        Client(served.address, api_key=keys["alice"]) as alice,
        Client(served.address, api_key=keys["bob"]) as bob,
        Client(served.address, api_key="eve") as eve,
    ):
        job = alice.submit("a red circle")
        with pytest.raises(errors.NotFound):
            bob.get(job.id)
        assert bob.list().jobs == () and [found.id for found in alice.list().jobs] == [job.id]
        with pytest.raises(errors.PermissionDenied, match="admin"):
            alice.stats()
        with pytest.raises(errors.NotAuthenticated):
            eve.list()


def test_leaving_early_stops_the_work(slow):
    left: list[str] = []

    def leave(job: Job) -> None:
        left.append(job.id)
        if job.progress > 0:
            raise KeyboardInterrupt

    with Client(slow.address) as client:
        with pytest.raises(KeyboardInterrupt):
            client.generate("a red circle", on_progress=leave, **LONG)
        with pytest.raises(errors.DeadlineExceeded):
            client.generate("a red circle", timeout_s=0.5, **LONG)
        left.append(client.list(limit=1).jobs[0].id)
    assert len(set(left)) == 2
    until(lambda: {slow.store.request(job_id).state for job_id in left} == {"cancelled"})
    until(lambda: not (len(slow.service.maker.changes) or slow.service.work.in_hand))


def test_a_cancelled_job_is_told_as_such(slow, monkeypatch):
    calls = calls_of(monkeypatch, slow, "submit")

    def cancel(job: Job) -> None:
        if job.progress > 0:
            slow.run(slow.service.cancel, job.id, CALLER)

    with Client(slow.address) as client, pytest.raises(errors.VideoFailed) as caught:
        client.generate("a red circle", on_progress=cancel, **LONG)
    assert caught.value.code == "cancelled" and len(calls) == 1


def test_the_same_key_is_the_same_request(client):
    one = client.submit("a red circle", idempotency_key="k")
    assert client.submit("a red circle", idempotency_key="k").id == one.id
    assert client.submit("a red circle").id != one.id
    with pytest.raises(errors.InvalidRequest, match="idempotency_key"):
        client.submit("a blue square", idempotency_key="k")


def test_a_service_that_comes_back_is_found_again():
    records, done = Failing(), list[bytes]()
    with serving(records=records, name="again") as again:
        with serving(SLOW, records, grace_s=0.0) as ending, Client(ending.address) as client:
            worker = threading.Thread(target=lambda: done.append(client.generate("a red circle", **LONG).data))
            worker.start()
            until(lambda: len(ending.service.maker.changes) == 1)
            # Its calls are cut off, and nobody's request is cancelled by a service that ends.
            ending.run(ending.server.stop, 0)
            server = GrpcServer(again.service, again.server.access, again.server.limits, port=ending.server.port)
            again.run(server.start)
            ending.run(ending.service.stop, 0.0)
            worker.join(30)
        (record,) = again.store.requests()
        assert (record.state, record.attempts) == ("done", 1)
        assert hashlib.sha256(done[0]).hexdigest() == record.video
        again.run(server.stop, 0)


def test_nobody_there_is_unavailable_in_the_end():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{free.getsockname()[1]}") as client, pytest.raises(errors.Unavailable):
            client.get("x")


def test_what_may_be_done_twice_is_repeated_and_else_not(served, client, monkeypatch):
    submits, remixes = calls_of(monkeypatch, served, "submit"), calls_of(monkeypatch, served, "remix")
    with served.records.failing(), pytest.raises(errors.Unavailable):
        client.submit("a red circle")
    assert len(submits) == 4
    job = client.submit("a red circle")
    with served.records.failing(), pytest.raises(errors.Unavailable):
        client.remix(job.id, "a blue square")
    assert len(remixes) == 1


def test_models_say_what_can_be_asked(client):
    (model,) = client.models()
    assert (model.name, model.version, model.ungated) == ("synthetic", "synthetic@1", True)
    assert abs(model.created_at - time.time()) < 600
    assert model.defaults["num_inference_steps"] == 4 and model.limits["widths"] == (64,)


def test_sessions(client):
    session = client.create_session({"seed": 3, "metadata": {"x": [1, 2.5, None]}})
    assert session.defaults == {"seed": 3, "metadata": {"x": [1, 2.5, None]}} and session.edit_state is None
    changed = client.update_session(session.id, expected_revision=1, defaults={"seed": None}, edit_state=["a", 1])
    assert changed.defaults == {"metadata": {"x": [1, 2.5, None]}} and changed.edit_state == ["a", 1]
    with pytest.raises(errors.Conflict, match="revision"):
        client.update_session(session.id, expected_revision=1)
    assert client.update_session(session.id).edit_state == ["a", 1]
    assert client.update_session(session.id, edit_state=None).edit_state is None
    client.delete_session(session.id)
    with pytest.raises(errors.NotFound):
        client.get_session(session.id)


def following(maker: Maker) -> Swapper:
    """Two versions of a device without networks."""

    def prepare(reference: str) -> Prepared:
        version, to_load = synthetic()
        new = {"version_digest": "e" * 64, "label": "synthetic@2"}
        return dataclasses.replace(version, **new), dataclasses.replace(to_load, **new)

    return Swapper(maker, "synthetic", prepare, lambda *_: True)


def test_admin():
    with serving(following=following) as served, Client(served.address) as client:
        for generation, (digest, label) in enumerate([("synthetic", "synthetic@1"), ("e" * 64, "synthetic@2")]):
            served.store.promote("synthetic", Champion(digest, label), generation)
        told = client.swap("synthetic@2")
        assert told.keys() == {"before", "serving", "seconds", "longest_gap_s"}
        assert (told["before"], told["serving"]) == ("synthetic@1", "synthetic@2")
        assert 0 < told["longest_gap_s"] <= told["seconds"]
        back = client.rollback()
        assert back.keys() == told.keys() and (back["before"], back["serving"]) == ("synthetic@2", "synthetic@1")
        again = client.reload()
        assert again.keys() == told.keys() and again["before"] == again["serving"] == "synthetic@1"
        stats = client.stats()
        assert stats["ready"] is True and stats["in_hand"] == 0
        assert {one["label"]: one["admitted"] for one in stats["versions"]} == {
            "synthetic@1": True,
            "synthetic@2": False,
        }
        client.drain()
        assert not served.service.readiness.ready


def test_execute_stops_when_it_is_left(slow):
    claims = leases(slow.store.claim(sealed(slow.store, 2), "run", 60.0))
    with Client(slow.address) as client:
        running = client.execute(claims)
        next(running)
        assert slow.service.work.in_hand.keys() == {claim.request_id for claim in claims}
        running.close()
        until(lambda: not slow.service.work.in_hand)


def test_the_async_client_does_the_same(served, slow):
    async def story() -> None:
        async with AsyncClient(served.address) as client:
            seen: list[Job] = []
            videos = await asyncio.gather(
                client.generate("a red circle", on_progress=seen.append), client.generate("a blue square")
            )
            assert all(b"ftyp" in video.data[:12] for video in videos) and len(seen) > 1
            job = await client.submit("a red circle")
            assert [seen.status async for seen in client.watch(job.id)][-1] == "completed"
            assert (await client.get(job.id)).id == job.id
            assert await client.content(job.id, start=4, stop=8) == b"ftyp"
            assert len((await client.list(limit=3)).jobs) == 3 and len(await client.models()) == 1
            assert (await client.remix(job.id, "a blue square")).remixed_from == job.id
            await client.delete(job.id)
            with pytest.raises(errors.NotFound):
                await client.get(job.id)
            session = await client.create_session()
            assert (await client.update_session(session.id, defaults={"fps": 1})).defaults == {"fps": 1}
            assert (await client.stats())["ready"] is True
            claims = leases(served.store.claim(sealed(served.store, 1), "run", 60.0))
            assert isinstance([item async for item in client.execute(claims)][-1], Executed)

        async with AsyncClient(slow.address) as client:
            assert (await client.cancel((await client.submit("x")).id)).state == "cancelled"
            leaving = asyncio.ensure_future(client.generate("a red circle", **LONG))
            while not len(slow.service.maker.changes):
                await asyncio.sleep(0.01)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            while (await client.list(limit=1)).jobs[0].state != "cancelled":
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_the_client_brings_in_nothing_but_itself_and_the_protos():
    code = """
import sys
import videogen.client.aio, videogen.client.sync
ours = {name for name in sys.modules if name.split(".")[0] == "videogen"}
print(sorted(name for name in ours if not (name + ".").startswith(("videogen.client.", "videogen.protos."))))
print(sorted(sys.modules.keys() & {"torch", "av", "numpy", "onnxruntime", "openvino", "pydantic", "scipy"}))
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split("\n")[:2] == ["['videogen']", "[]"]
