"""A drain hands its leases to a service, which makes and publishes: real processes on a device without networks."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.fixtures.servers import free_port
from tests.handed_drain import Nobody
from tests.serving.running import Serve, serving
from videogen.client.sync import Client
from videogen.drain import DrainProgress, DrainReport, drain
from videogen.generate import Clip, Timings
from videogen.models.spec import ModelSpec
from videogen.remote import RemoteService
from videogen.requests import UNGATED, AcceptedRequest, accept, parse_request
from videogen.store.store import Store

pytestmark = pytest.mark.slow
SPEC = ModelSpec("synthetic", num_inference_steps=4, guidance_scale=1.0)
SECONDS = 60.0


class Here:
    """What the run makes itself."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def generate(self, requests, on_progress=None):
        for request in requests:
            self.made.append(request.id)
            yield Clip(request, np.zeros((2, 16, 16, 3), np.uint8), Timings(0.0, 0.0, 0.0, 1, True))


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def one(home) -> Iterator[Serve]:
    with serving(home) as one:
        yield one


@pytest.fixture(scope="module")
def store(home) -> Iterator[Store]:
    with Store.open(f"embedded:{home / 'store'}") as store:
        yield store


@pytest.fixture
def doomed(home) -> Iterator[Serve]:
    """Another one on the same store."""
    with serving(home, name="doomed") as one:
        yield one


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.02)


def alone(seed: int, steps: int, digest: str = "synthetic") -> AcceptedRequest:
    """One whose video is shared with nobody: a synthetic version has passed no gates."""
    wish = parse_request({"prompt": "a red ring", "seed": seed, "model": "synthetic", "num_inference_steps": steps})
    accepted = accept(wish, SPEC, digest, label="synthetic@1")
    return accepted.model_copy(update={"fingerprint": UNGATED + accepted.id})


def sealed(store: Store, count: int, steps: int = 4) -> tuple[str, list[str]]:
    ids = [store.submit(alone(seed, steps), "test").id for seed in range(count)]
    return store.seal_batch(ids, 600).id, ids


def remote(one: Serve) -> RemoteService:
    return RemoteService(f"127.0.0.1:{one.grpc}")


def handed(store: Store, batch: str, one: Serve, here: Here | Nobody, **options) -> DrainReport:
    return drain(
        store, batch, here, holder="run", provenance={"by": "this run"}, encode=lambda *_: b"mp4", lease_s=6.0,
        service=remote(one), **options,
    )  # fmt: skip


def done(store: Store, ids: list[str]) -> int:
    return sum(store.request(one).state == "done" for one in ids)


def test_the_service_makes_all_and_the_run_keeps_its_leases(store, one):
    batch, ids = sealed(store, 6, steps=50)
    told: list[DrainProgress] = []
    report = drain(store, batch, Nobody(), holder="run", provenance={}, lease_s=1.0, on_progress=told.append,
                   service=remote(one))  # fmt: skip
    assert set(report.published) == set(ids) and report.by_service == 6 and not report.failed
    assert (report.lost, report.unwanted, report.service_gone) == (0, 0, None)
    assert report.seconds > 2.0, "it took longer than a lease lasts by itself"
    assert store.batch(batch).state == "finished" and report.stages["service"] > 0 and report.overhead_share < 0.5
    shares = [share for progress in told for share in progress.running.values()]
    assert any(0 < share < 1 for share in shares) and told[-1].published == told[-1].total == 6
    with Client(f"127.0.0.1:{one.grpc}") as client:
        for request_id in ids:
            record = store.request(request_id)
            made = store.video(record.video, record.generation).provenance
            assert (made["holder"], made["dagster_run"], made["request_id"]) == ("run", "run", request_id)
            assert str(made["service"]).startswith("serve-") and made["synthetic"] and record.attempts == 1
            usage = client.get(request_id).usage
            assert usage.gpu_seconds == pytest.approx(made["device_seconds"]) and usage.gpu_seconds > 0


def test_a_killed_services_work_is_finished_by_the_run(store, doomed):
    batch, ids = sealed(store, 40, steps=10)
    here = Here()

    def kill(progress: DrainProgress) -> None:
        if 0 < progress.published < 30:
            doomed.process.kill()

    report = handed(store, batch, doomed, here, on_progress=kill)
    assert set(report.published) == set(ids) and not report.failed and done(store, ids) == 40
    assert report.service_gone is not None and 0 < report.by_service < 40
    assert len(here.made) == len(set(here.made)) == 40 - report.by_service
    makers = [report.published[request_id].provenance.get("by") for request_id in ids]
    assert makers.count("this run") == len(here.made)
    assert {store.request(request_id).attempts for request_id in ids} == {1}, "the leases were the run's throughout"


def test_a_killed_engine_process_costs_what_was_in_its_hands_one_attempt(store, doomed):
    batch, ids = sealed(store, 32, steps=20)
    here, killed = Here(), threading.Event()

    def kill(progress: DrainProgress) -> None:
        if any(progress.running.values()) and not killed.is_set():
            killed.set()
            os.kill(doomed.engine(), signal.SIGKILL)

    report = handed(store, batch, doomed, here, on_progress=kill)
    assert set(report.published) == set(ids) and report.service_gone is None and not report.failed
    attempts = {store.request(request_id).attempts for request_id in ids}
    assert attempts == {1, 2}, "what merely waited was handed back as it was"
    assert here.made


def test_what_is_cancelled_stops_and_is_made_by_nobody(store, one):
    batch, ids = sealed(store, 4, steps=50)
    here, cancelled = Here(), threading.Event()

    def cancel(progress: DrainProgress) -> None:
        if any(progress.running.values()) and not cancelled.is_set():
            cancelled.set()
            one.ask(f"/v1/videos/{ids[1]}/cancel", {}, "POST")

    report = handed(store, batch, one, here, on_progress=cancel)
    assert set(report.published) == set(ids) - {ids[1]} and (report.unwanted, report.lost) == (1, 0)
    assert store.request(ids[1]).state == "cancelled" and not here.made and not report.failed
    assert store.batch(batch).state == "finished"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_ends_takes_its_work_back(store, home, one, how):
    batch, ids = sealed(store, 10, steps=20)
    command = [sys.executable, "-m", "tests.handed_drain", f"embedded:{home / 'store'}", batch]
    with Client(f"127.0.0.1:{one.grpc}") as client:
        run = subprocess.Popen([*command, f"127.0.0.1:{one.grpc}"], stderr=subprocess.DEVNULL)
        until(lambda: client.stats()["in_hand"] > 0)
        run.send_signal(how)
        assert run.wait(SECONDS) != 0
        until(lambda: client.stats()["in_hand"] == 0)
        before = done(store, ids)
        assert before < 10, "ended in the midst of it"
        until(lambda: store.recover() and store.batch(batch).state == "returned")
        left = [record.id for record in store.waiting()]
        assert len(left) == 10 - done(store, ids)
        report = handed(store, store.seal_batch(left, 600).id, one, here := Here())
    assert done(store, ids) == 10 and set(report.published) == set(left) and not here.made


def test_lent_work_keeps_nobody_waiting_in_the_services_own_queue(store, one):
    batch, ids = sealed(store, 32, steps=20)
    asked: list[str] = []

    def ask(progress: DrainProgress) -> None:
        if any(progress.running.values()) and not asked:
            asked.append(one.submit("a blue star", priority="interactive"))
            assert one.end_of(asked[0])["status"] == "completed"
            asked.append(str(done(store, ids)))

    report = handed(store, batch, one, Nobody(), on_progress=ask)
    assert report.by_service == 32 and int(asked[1]) < 16


def test_what_the_service_may_not_make_is_made_here(store, one):
    """It has passed no gates, so its videos may answer nobody but who asked it."""
    wish = parse_request({"prompt": "a red ring", "seed": 1, "model": "synthetic"})
    shared = store.submit(accept(wish, SPEC, "synthetic", label="synthetic@1"), "test").id
    report = handed(store, store.seal_batch([shared], 600).id, one, here := Here())
    assert here.made == [shared] and (report.by_service, report.service_gone) == (0, None)


def test_a_service_on_another_store_is_left_alone(tmp_path, one):
    with Store.open(f"embedded:{tmp_path / 'another'}") as store:
        batch, ids = sealed(store, 3)
        report = handed(store, batch, one, here := Here())
        assert sorted(here.made) == sorted(ids) and "there is no request" in str(report.service_gone)


def test_it_says_why_nothing_can_be_handed_over(one):
    service = remote(one)
    assert service.why_not("synthetic") == "the version has passed no gates there"
    assert service.why_not("d" * 64) == "it serves synthetic@1"
    with Client(service.address) as client:
        client.drain()
    assert service.why_not("synthetic") == "it is not ready"
    assert "does not answer" in str(RemoteService(f"127.0.0.1:{free_port()}").why_not("synthetic"))
