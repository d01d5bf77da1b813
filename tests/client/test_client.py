"""The Python client, sync and async, against a real server over loopback."""

import asyncio
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.serving.grpc.core import OVERLOADED, MemoryCore
from tests.serving.grpc.serving import CALLERS, Served, serving
from videogen.client import errors
from videogen.client.aio import AsyncClient
from videogen.client.results import Claim, Executed, ExecuteFailed, Executing, Job
from videogen.client.sync import Client
from videogen.errors import RateLimited, StoreUnavailable


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def client(served: Served) -> Iterator[Client]:
    with Client(served.address) as client:
        yield client


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.01)


def test_generate_tells_progress_and_gives_the_video(served, client, tmp_path):
    seen: list[Job] = []
    metadata = {"n": 3, "x": 0.5, "who": "me", "ok": True, "nothing": None}
    video = client.generate(
        "a red circle",
        seed=3,
        num_inference_steps=20,
        priority="interactive",
        metadata=metadata,
        on_progress=seen.append,
    )
    assert video.data == served.core.video
    assert video.save(tmp_path / "v.mp4").read_bytes() == served.core.video
    assert seen[0].status == "queued" and seen[0].queue_position == 0 and seen[0].eta_seconds == 1.5
    shares = [job.progress for job in seen]
    assert shares == sorted(shares) and len(shares) > 3 and shares[-1] > 0.5
    job = video.job
    assert (job.status, job.state, job.progress, job.model_version) == ("completed", "done", 1.0, "videogen-tiny@1")
    assert job.spec["seed"] == 3 and job.spec["width"] == 64 and job.spec["priority"] == "interactive"
    assert job.spec["metadata"] == metadata and type(job.spec["metadata"]["n"]) is int
    assert job.usage is not None and (job.usage.gpu_seconds, job.usage.cost_usd, job.usage.cache) == (
        0.25,
        None,
        "miss",
    )
    assert job.provenance == {"precision": "fp32", "seed": 3, "per": [0.5]}
    assert job.video_digest == hashlib.sha256(served.core.video).hexdigest() and job.video_size == len(video.data)
    assert abs(job.created_at - time.time()) < 60 and job.completed_at is not None


def test_submit_watch_get_content_remix_delete(served, client):
    job = client.submit("a red circle", seed=2**53 - 1)
    assert job.spec["seed"] == 2**53 - 1
    states = [seen.status for seen in client.watch(job.id)]
    assert states[0] in ("queued", "in_progress") and states[-1] == "completed"
    assert client.get(job.id).status == "completed"
    assert client.content(job.id) == served.core.video
    assert client.content(job.id, start=299_990, stop=600_010) == served.core.video[299_990:600_010]
    assert client.content(job.id, start=len(served.core.video)) == b""
    other = client.remix(job.id, "a blue square")
    assert (other.remixed_from, other.spec["seed"], other.spec["prompt"]) == (job.id, 2**53 - 1, "a blue square")
    client.delete(other.id)
    with pytest.raises(errors.NotFound, match="no request"):
        client.get(other.id)


def test_pages_follow_each_other_in_both_orders(client):
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
    with pytest.raises(errors.InvalidRequest, match="metadata"):
        client.submit("a red circle", metadata={"x": object()})


def test_overload_says_when_to_come_again(served, client):
    for error in (OVERLOADED, RateLimited("too many", 2.5)):
        served.core.refuse_with = error
        before = served.core.submits
        with pytest.raises(errors.Overloaded) as caught:
            client.generate("a red circle")
        assert caught.value.retry_after_s == 2.5 and served.core.submits == before + 1


def test_an_api_key_decides_whose_jobs_one_sees(served):
    with Client(served.address, api_key="alice") as alice, Client(served.address, api_key="bob") as bob:
        job = alice.submit("a red circle")
        with pytest.raises(errors.NotFound):
            bob.get(job.id)
        assert bob.list().jobs == () and [found.id for found in alice.list().jobs] == [job.id]
        with pytest.raises(errors.PermissionDenied, match="admin"):
            alice.stats()
    with Client(served.address, api_key="eve") as eve, pytest.raises(errors.NotAuthenticated):
        eve.list()


def test_leaving_early_stops_the_work(served, client):
    served.core.step_s = 0.05

    def leave(job: Job) -> None:
        if job.progress > 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.generate("a red circle", num_inference_steps=50, on_progress=leave)
    until(lambda: len(served.core.stopped) == 1)
    with pytest.raises(errors.DeadlineExceeded):
        client.generate("a red circle", num_inference_steps=50, timeout_s=0.3)
    until(lambda: len(served.core.stopped) == 2)
    until(lambda: served.core.watchers == 0)


def test_a_cancelled_job_is_told_as_such(served, client):
    served.core.step_s = 0.05

    def cancel(job: Job) -> None:
        if job.progress > 0:
            served.run(served.core.cancel(job.id, CALLERS[None]))

    with pytest.raises(errors.VideoFailed) as caught:
        client.generate("a red circle", num_inference_steps=50, on_progress=cancel)
    assert caught.value.code == "cancelled" and served.core.submits == 1


def test_the_same_key_is_the_same_request(client):
    one = client.submit("a red circle", idempotency_key="k")
    assert client.submit("a red circle", idempotency_key="k").id == one.id
    assert client.submit("a red circle").id != one.id
    with pytest.raises(errors.InvalidRequest, match="idempotency_key"):
        client.submit("a blue square", idempotency_key="k")


def test_a_service_that_comes_back_is_found_again():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    core = MemoryCore(step_s=0.05)
    done: list[bytes] = []

    with Client(f"127.0.0.1:{port}") as client:
        with serving(core, port):
            worker = threading.Thread(
                target=lambda: done.append(client.generate("a red circle", num_inference_steps=40).data)
            )
            worker.start()
            until(lambda: core.watchers == 1)
        # Its calls were cut off, its core lost what it had in memory, and it is there again.
        again = MemoryCore()
        with serving(again, port):
            worker.join(30)
    assert done == [again.video]
    assert core.stopped == []  # a service that stops cancels nobody's request


def test_nobody_there_is_unavailable_in_the_end():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with Client(f"127.0.0.1:{free.getsockname()[1]}") as client, pytest.raises(errors.Unavailable):
            client.get("x")


def test_what_may_be_done_twice_is_repeated_and_else_not(served, client):
    served.core.refuse_with = StoreUnavailable("away")
    with pytest.raises(errors.Unavailable):
        client.submit("a red circle")
    assert served.core.submits == 4
    served.core.refuse_with = None
    job = client.submit("a red circle")
    served.core.refuse_with = StoreUnavailable("away")
    with pytest.raises(errors.Unavailable):
        client.remix(job.id, "a blue square")
    assert served.core.submits == 6


def test_models_say_what_can_be_asked(client):
    (model,) = client.models()
    assert (model.name, model.version, model.ungated, model.created_at) == (
        "videogen-tiny",
        "videogen-tiny@1",
        False,
        5,
    )
    assert model.defaults["num_inference_steps"] == 20 and model.limits["widths"] == (64,)


def test_sessions(client):
    session = client.create_session({"seed": 3, "nested": {"x": [1, 2.5, None]}})
    assert session.defaults == {"seed": 3, "nested": {"x": [1, 2.5, None]}} and session.edit_state is None
    changed = client.update_session(session.id, expected_revision=1, defaults={"seed": None}, edit_state=["a", 1])
    assert changed.defaults == {"nested": {"x": [1, 2.5, None]}} and changed.edit_state == ["a", 1]
    with pytest.raises(errors.Conflict, match="revision"):
        client.update_session(session.id, expected_revision=1)
    assert client.update_session(session.id).edit_state == ["a", 1]
    assert client.update_session(session.id, edit_state=None).edit_state is None
    client.delete_session(session.id)
    with pytest.raises(errors.NotFound):
        client.get_session(session.id)


def test_admin(served, client):
    assert client.swap("videogen-tiny@2") == {"before": "videogen-tiny@1", "now": "videogen-tiny@2", "gap_s": 0.5}
    assert client.rollback() == {"now": "videogen-tiny@1"}
    assert client.stats() == {"waiting": 3, "device": {"busy": 0.75}}
    with pytest.raises(errors.Unavailable, match="store"):
        client.reload()
    client.drain()
    assert not served.core.ready


def test_execute_tells_each_outcome_and_stops_when_left(served, client):
    claims = [Claim(f"r{n}", f"g{n}", token, 1, "run", 60.0) for n, token in enumerate(("ab", "bad"))]
    news = list(client.execute(claims))
    assert news == [
        Executing("g0", 0.5),
        Executed("g0", "abab"),
        Executing("g1", 0.5),
        ExecuteFailed("g1", "generation_failed", "no luck", retry=True),
    ]
    served.core.step_s, served.core.stopped = 60.0, []
    running = client.execute(claims)
    assert next(running) == Executing("g0", 0.5)
    running.close()
    until(lambda: served.core.stopped == ["execute"])
    with pytest.raises(errors.InvalidRequest, match="claims"):
        list(client.execute([]))


def test_the_async_client_does_the_same(served):
    async def story() -> None:
        async with AsyncClient(served.address) as client:
            seen: list[Job] = []
            videos = await asyncio.gather(
                client.generate("a red circle", on_progress=seen.append), client.generate("a blue square")
            )
            assert [video.data for video in videos] == [served.core.video] * 2 and len(seen) > 1
            job = await client.submit("a red circle")
            assert [seen.status async for seen in client.watch(job.id)][-1] == "completed"
            assert (await client.get(job.id)).id == job.id
            assert await client.content(job.id, start=5, stop=9) == served.core.video[5:9]
            assert len((await client.list()).jobs) == 3 and len(await client.models()) == 1
            assert (await client.remix(job.id, "a blue square")).remixed_from == job.id
            assert (await client.cancel((await client.submit("x")).id)).state == "cancelled"
            await client.delete(job.id)
            with pytest.raises(errors.NotFound):
                await client.get(job.id)
            session = await client.create_session()
            assert (await client.update_session(session.id, defaults={"a": 1})).defaults == {"a": 1}
            assert (await client.stats())["waiting"] == 3
            news = [item async for item in client.execute([Claim("r", "g", "ab", 1, "run", 60.0)])]
            assert news[-1] == Executed("g", "abab")

            served.core.step_s = 0.05
            slow = asyncio.ensure_future(client.generate("a red circle", num_inference_steps=50))
            while not served.core.watchers:
                await asyncio.sleep(0.01)
            stopped = len(served.core.stopped)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            while len(served.core.stopped) == stopped:
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
