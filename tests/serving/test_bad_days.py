"""What the service does when what is around it fails: real processes, whose service must never die of it."""

import contextlib
import json
import resource
import signal
import socket
import struct
import subprocess
import time

import httpx
import pytest

from tests.fixtures.servers import redis_server, send
from tests.serving.running import ROOT, Serve, serving
from videogen.client.sync import Client

pytestmark = pytest.mark.slow
SECONDS = 60.0
LONG = {"num_inference_steps": 30}
"""Some one and a half seconds of the device."""
HOUR = 3600
SET_CLOCK = """
import os, pathlib, time
real, told = time.time, pathlib.Path(os.environ["CLOCK_OFF_BY"])
time.time = lambda: real() + float(told.read_text() or 0)
time.time_ns = lambda: int(time.time() * 1e9)
"""
"""For the service and its engine process: the wall clock as it is in Python, off by what a file says.

libfaketime cannot stand in: Python's sleep to a time of the monotonic clock fails under it.
"""


def until(holds):
    deadline = time.monotonic() + SECONDS
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.1)
    return found


def readiness(service: Serve) -> httpx.Response:
    return httpx.get(f"{service.url}/readyz", timeout=30)


def submitted(service: Serve, seed: int) -> httpx.Response:
    return httpx.post(f"{service.url}/v1/videos", json={"prompt": "a red ring", "seed": seed}, timeout=60)


def refused(service: Serve, seed: int) -> bool:
    """Is a request told to come again, the service alive meanwhile? A store that hangs may still have taken it."""
    answer = submitted(service, seed)
    assert answer.status_code == 503 and int(answer.headers["retry-after"]) >= 1, answer.text
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert httpx.get(f"{service.url}/healthz").status_code == 200
    return True


@pytest.mark.parametrize("how", ["hangs", "is killed"])
def test_the_store_goes_and_what_is_in_hand_is_published_when_it_is_back(tmp_path, how):
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with contextlib.ExitStack() as stack:
        url, server = stack.enter_context(redis_server(tmp_path, *options))
        with serving(tmp_path / "home", url) as service:
            ids = [service.submit("a red ring", seed=seed, **LONG) for seed in range(4)]
            until(lambda: service.ask(f"/v1/videos/{ids[0]}")["status"] == "in_progress")
            send(server, signal.SIGSTOP if how == "hangs" else signal.SIGKILL)
            away = until(lambda: (found := readiness(service)).status_code == 503 and found)
            assert any("the store is away" in reason for reason in away.json()["reasons"])
            assert refused(service, 100)
            if how == "hangs":
                send(server, signal.SIGCONT)
            else:
                server.wait()
                stack.enter_context(redis_server(tmp_path, *options, port=int(url.rpartition(":")[2])))
            until(lambda: readiness(service).status_code == 200)
            assert {service.end_of(one)["status"] for one in ids} == {"completed"}
            assert service.end_of(service.submit("a red ring", seed=101))["status"] == "completed"
            assert service.ask("/readyz") == {"ready": True, "reasons": []}
        assert service.process.returncode == 0, service.log.read_text()


@contextlib.contextmanager
def small_disk(folder):
    """A file system of its own, small."""
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    mounted = subprocess.run(mounting, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {mounted.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextlib.contextmanager
def filled(folder):
    """Its file system is full meanwhile."""
    filling = folder / "filling"
    with contextlib.suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    yield
    filling.unlink()


@contextlib.contextmanager
def limited(service):
    """No file of the service may be written beyond its first 4 KiB meanwhile."""
    soft, hard = resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (4096, hard))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("how", ["its file system is full", "its files are full"])
def test_a_full_disk_refuses_what_is_new_and_work_in_hand_is_published_once_there_is_room(tmp_path, how):
    folder, is_full = tmp_path / "disk", how == "its file system is full"
    with (
        small_disk(folder) if is_full else contextlib.nullcontext(),
        serving(tmp_path, f"embedded:{folder}/store") as service,
    ):
        ids = [service.submit("a red ring", seed=seed, **LONG) for seed in range(4)]
        until(lambda: service.ask(f"/v1/videos/{ids[0]}")["status"] == "in_progress")
        with filled(folder) if is_full else limited(service):
            until(lambda: submitted(service, 100).status_code == 503)
            assert refused(service, 101)
        assert {service.end_of(one)["status"] for one in ids} == {"completed"}
        assert service.end_of(service.submit("a red ring", seed=102))["status"] == "completed"
    assert service.process.returncode == 0, service.log.read_text()


def gone_after(service: Serve, request: str) -> None:
    """Sends a request and breaks the connection off before its answer is read."""
    with socket.create_connection(("127.0.0.1", service.http)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(request.encode())
        time.sleep(0.02)


def test_clients_that_go_away_hold_nobody_up(tmp_path):
    with serving(tmp_path) as service, Client(f"127.0.0.1:{service.grpc}") as client:
        watched = service.submit("a red ring", seed=0, **LONG)
        body = json.dumps({"prompt": "a red ring", "seed": 1, "num_inference_steps": 50})
        head = f"Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        for _ in range(100):  # more than one tenant may watch at once
            gone_after(service, f"GET /v1/videos/{watched}/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        for _ in range(10):
            gone_after(service, f"POST /v1/videos/sync HTTP/1.1\r\n{head}{body}")
        assert service.end_of(watched)["status"] == "completed"
        assert service.end_of(service.submit("a red ring", seed=2))["status"] == "completed"
        until(lambda: client.stats()["in_hand"] == 0)
        ends = [video["status"] for video in service.ask("/v1/videos?limit=100")["data"]]
        assert ends.count("completed") == 2 and "in_progress" not in ends and "queued" not in ends
        events = httpx.get(f"{service.url}/v1/videos/{watched}/events", timeout=30)
        assert "event: video.completed" in events.text


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_the_clock_jumps_and_everything_accepted_is_answered(tmp_path, jump):
    (tmp_path / "sitecustomize.py").write_text(SET_CLOCK)
    clock = tmp_path / "clock"
    clock.write_text("0")
    fake = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CLOCK_OFF_BY": str(clock)}
    with serving(tmp_path / "home", None, **fake) as service:
        before = [service.submit("a red ring", seed=seed, deadline=600.0, **LONG) for seed in range(4)]
        clock.write_text(str(jump))
        assert abs(_told_time(service) - time.time() - jump) < HOUR / 2
        after = [service.submit("a red ring", seed=seed, deadline=600.0) for seed in range(4, 8)]
        assert {service.end_of(one)["status"] for one in [*before, *after]} == {"completed"}
        assert service.ask("/readyz") == {"ready": True, "reasons": []}
    assert service.process.returncode == 0, service.log.read_text()


def _told_time(service: Serve) -> float:
    """The wall clock of the service: when it says that it accepted a request."""
    return service.ask("/v1/videos", {"prompt": "a red ring", "num_inference_steps": 1})["created_at"]
