"""gRPC over the real core, by the Python client: `videogen serve` in its own process, on a device without networks."""

import asyncio
import dataclasses
import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.serving.grpc.process import served
from videogen.client import errors
from videogen.client.aio import AsyncClient
from videogen.client.results import HANDED_BACK, Claim, Executed, ExecuteFailed, Executing, Job
from videogen.client.sync import Client
from videogen.models.spec import ModelSpec
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.video_pb2 import VideoSpec
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub
from videogen.requests import UNGATED, AcceptedRequest, accept, parse_request
from videogen.store.backends.catalog import open_records
from videogen.store.records import Claim as Lease
from videogen.store.store import Store

SPEC = ModelSpec("synthetic", num_inference_steps=4, guidance_scale=1.0)
LONG = {"num_inference_steps": 50}
"""Some two seconds of the device."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("serve")


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with served(folder) as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.02)


def newest(client: Client) -> Job:
    return client.list(limit=1).jobs[0]


def test_generate_tells_progress_and_gives_the_video(client):
    seen: list[Job] = []
    video = client.generate("a red circle", seed=3, metadata={"n": 3, "x": 0.5}, on_progress=seen.append, **LONG)
    shares = [job.progress for job in seen]
    assert shares == sorted(shares) and len(set(shares)) > 5
    assert seen[0].status == "queued" and {job.id for job in seen} == {video.job.id}
    assert b"ftyp" in video.data[:12] and hashlib.sha256(video.data).hexdigest() == video.job.video_digest
    assert video.job.spec["seed"] == 3 and video.job.spec["metadata"] == {"n": 3, "x": 0.5}
    assert video.job.usage is not None and video.job.usage.gpu_seconds > 0 and video.job.usage.cache == "miss"
    assert video.job.ungated and client.get(video.job.id) == video.job


@pytest.mark.parametrize("how", ["cancelled", "deadline", "gone"])
def test_who_leaves_stops_the_work(client, address, how):
    if how == "deadline":
        with pytest.raises(errors.DeadlineExceeded):
            client.generate("a red circle", timeout_s=0.5, **LONG)
    else:
        request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", **LONG))
        channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        stream = VideoServiceStub(channel).Generate(request)
        next(part for part in stream if part.progress.progress > 0)
        stream.cancel() if how == "cancelled" else channel.close()
    until(lambda: newest(client).state == "cancelled")
    until(lambda: client.stats()["in_hand"] == 0)


def test_who_asks_to_be_left_running_is(client, address):
    with grpc.insecure_channel(address) as channel:
        request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle"), keep_running=True)
        stream = VideoServiceStub(channel).Generate(request)
        job_id = next(stream).progress.id
        stream.cancel()
    assert list(client.watch(job_id))[-1].status == "completed"


def test_one_cancels_another_watches(client):
    job = client.submit("a red circle", **LONG)
    seen: list[Job] = []
    watching = threading.Thread(target=lambda: seen.extend(client.watch(job.id)))
    watching.start()
    until(lambda: client.get(job.id).progress > 0)
    assert client.cancel(job.id).state == "cancelled"
    watching.join(30)
    assert seen[-1].state == "cancelled" and seen[-1].error is not None and seen[-1].error.code == "cancelled"
    with pytest.raises(errors.Conflict, match="no content"):
        client.content(job.id)


def test_submit_content_remix_list_delete(client):
    job = client.submit("a red circle", seed=2**53 - 1, idempotency_key="k")
    assert client.submit("a red circle", seed=2**53 - 1, idempotency_key="k").id == job.id
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit("a blue square", idempotency_key="k")
    assert caught.value.field == "idempotency_key"
    assert list(client.watch(job.id))[-1].status == "completed"
    data = client.content(job.id)
    assert client.content(job.id, start=10, stop=200) == data[10:200]
    with pytest.raises(errors.InvalidRequest, match="start"):
        client.content(job.id, start=len(data) + 1)
    other = client.remix(job.id, "a blue square")
    assert (other.remixed_from, other.spec["seed"], other.spec["prompt"]) == (job.id, 2**53 - 1, "a blue square")
    first = client.list(limit=1)
    assert first.jobs[0].id == other.id
    assert client.list(limit=1, page_token=first.next_page_token).jobs[0].id == job.id
    client.delete(other.id)
    with pytest.raises(errors.NotFound):
        client.get(other.id)


def test_errors_name_field_given_and_allowed(client):
    for field, given, shown in (("width", 65, "65"), ("num_inference_steps", 51, "51"), ("model", "x", "'x'")):
        with pytest.raises(errors.InvalidRequest) as caught:
            client.submit("a red circle", **{field: given})
        assert (caught.value.field, caught.value.given) == (field, shown) and caught.value.allowed
    with pytest.raises(errors.Overloaded) as refused:
        client.submit("a red circle", deadline=0.001)
    assert refused.value.retry_after_s is not None and "deadline" in str(refused.value)


@pytest.mark.parametrize(
    ("field", "given", "allowed"),
    [
        ("prompt", 7, "text in Unicode"),
        ("prompt", "\ud800", "text in Unicode"),
        ("seed", "many", "a whole number of 64 bits"),
        ("seed", 10**30, "a whole number of 64 bits"),
        ("num_inference_steps", 1.5, "a whole number of 32 bits"),
        ("guidance_scale", "much", "a number"),
        ("adapters", [7], "a list, each text in Unicode"),
        ("metadata", "note", "a mapping of texts to JSON values"),
        ("priority", "high", "one of interactive, standard, batch"),
    ],
)
def test_what_fits_into_no_message_is_refused_in_words_before_it_is_sent(client, field, given, allowed):
    with pytest.raises(errors.InvalidRequest) as caught:
        client.submit(**{"prompt": "a red circle", field: given})
    assert (caught.value.field, caught.value.given, caught.value.allowed) == (field, repr(given), allowed)


def test_a_list_of_none_is_refused(client):
    for limit, field in ((0, "limit"), (101, "page_size")):
        with pytest.raises(errors.InvalidRequest, match=f"{field}: got {limit}; allowed: .*1"):
            client.list(limit=limit)


def test_it_is_serving(client):
    assert client.is_serving()


def test_models_and_sessions(client):
    (model,) = client.models()
    assert model.version == "synthetic@1" and model.ungated and model.limits["widths"] == (64,)
    session = client.create_session({"seed": 3, "metadata": {"x": [1, 2.5, None]}})
    changed = client.update_session(session.id, expected_revision=1, defaults={"seed": None}, edit_state=["a", 1])
    assert changed.defaults == {"metadata": {"x": [1, 2.5, None]}} and changed.edit_state == ["a", 1]
    with pytest.raises(errors.Conflict, match="revision"):
        client.update_session(session.id, expected_revision=1)
    assert client.get_session(session.id) == changed
    client.delete_session(session.id)
    with pytest.raises(errors.NotFound):
        client.get_session(session.id)


def alone(accepted: AcceptedRequest) -> AcceptedRequest:
    """One whose video is shared with nobody, as all are that versions without gates make."""
    return accepted.model_copy(update={"fingerprint": UNGATED + accepted.id})


def lent(lease: Lease) -> Claim:
    return Claim(lease.request.id, lease.generation, lease.token, lease.attempt, lease.holder, lease.lease_s)


def test_execute_hands_back_what_would_be_shared_and_what_is_not_served(client, folder):
    """A version without gates makes no video that answers anybody else; another store's requests are refused."""
    with Store(open_records(f"embedded:{folder}/home/store")) as store:
        shared, other = (
            store.submit(accept(parse_request({"prompt": "a red circle", "seed": 1}), SPEC, digest), "test").id
            for digest in (client.models()[0].version_digest, "d" * 64)
        )
        claims = [lent(lease) for lease in store.claim([shared, other], "run", 60.0)]
        news = list(client.execute(claims))
        assert {item.code for item in news if isinstance(item, ExecuteFailed)} == {HANDED_BACK} and len(news) == 2
        assert any("no gates" in item.message for item in news if isinstance(item, ExecuteFailed))
        with pytest.raises(errors.NotFound):
            list(client.execute([dataclasses.replace(claims[0], request_id="elsewhere")]))


def test_execute_publishes_under_the_leases_of_others(client, folder):
    """As a drain run does: it leases from the store, the service makes and publishes, the lease stays the run's."""
    with Store(open_records(f"embedded:{folder}/home/store")) as store:
        digest = client.models()[0].version_digest
        requests = [parse_request({"prompt": "a red circle", "model": "synthetic", "seed": seed}) for seed in (1, 2, 3)]
        ids = [store.submit(alone(accept(request, SPEC, digest)), "test").id for request in requests]
        claims = [lent(lease) for lease in store.claim(ids, "run", 60.0, limit=3)]
        wrong = dataclasses.replace(claims[2], token="not-the-token")
        news = list(client.execute([*claims[:2], wrong]))
        done = {item.generation: item.digest for item in news if isinstance(item, Executed)}
        (failed,) = (item for item in news if isinstance(item, ExecuteFailed))
        assert any(isinstance(item, Executing) for item in news)
        assert done.keys() == {claim.generation for claim in claims[:2]} and failed.generation == wrong.generation
        for claim in claims[:2]:
            record = store.request(claim.request_id)
            assert record.state == "done" and record.video == done[claim.generation]
            made = store.video(record.video, record.generation).provenance
            assert made["holder"] == made["dagster_run"] == "run" and str(made["service"]).startswith("serve-")
        assert store.request(wrong.request_id).is_live
    with pytest.raises(errors.InvalidRequest, match="claims"):
        list(client.execute([]))


def test_the_async_client_does_the_same(address):
    async def story() -> None:
        async with AsyncClient(address) as client:
            videos = await asyncio.gather(*(client.generate("a red circle") for _ in range(3)))
            assert len({video.job.id for video in videos}) == 3
            slow = asyncio.ensure_future(client.generate("a red circle", **LONG))
            await asyncio.sleep(0.5)
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            while (await client.list(limit=1)).jobs[0].state != "cancelled":
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(story(), 60))


def test_only_a_known_key_is_answered_once_there_is_one(tmp_path):
    videogen = Path(sys.executable).with_name("videogen")
    environment = {**os.environ, "VIDEOGEN_HOME": str(tmp_path / "home")}
    made = subprocess.run(
        [videogen, "keys", "create", "--tenant", "alice"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    key = next(word for word in made.stdout.split() if word.startswith("vg_"))
    with served(tmp_path) as address:
        with Client(address, api_key=key) as alice:
            assert alice.submit("a red circle").status == "queued"
            with pytest.raises(errors.PermissionDenied, match="admin"):
                alice.stats()
        for wrong in (None, "vg_no", key + "x"):
            with Client(address, api_key=wrong) as eve, pytest.raises(errors.NotAuthenticated):
                eve.list()
