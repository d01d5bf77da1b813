"""While `videogen serve` loads its model, which may take minutes, HTTP answers: it lives, and what it waits for."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.fixtures.servers import free_port
from tests.serving.running import ROOT, SECONDS, Serve
from videogen.store.store import Store

pytestmark = pytest.mark.slow


@pytest.fixture
def loading(tmp_path):
    """A replica whose engine process has stopped in the midst of it."""
    http, log = free_port(), tmp_path / "log"
    options = [
        "--http-port",
        str(http),
        "--grpc-port",
        "0",
        "--model",
        str(ROOT / "models/videogen-tiny/2"),
        "--ungated",
    ]
    command = [sys.executable, "-c", "from videogen.cli import app; app()", "serve", *options]
    ours = {**os.environ, "VIDEOGEN_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        process = subprocess.Popen(command, env=ours, stdout=output, stderr=output)
    replica = Serve(process, http, 0, log)
    try:
        deadline = time.monotonic() + SECONDS
        while "looking for an engine" not in log.read_text():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        engine = replica.engine()
        os.kill(engine, signal.SIGSTOP)
        yield replica
        os.kill(engine, signal.SIGKILL)
        assert process.wait(SECONDS) == 1
        assert "the engine process ended (exit code -9)" in log.read_text()
    finally:
        process.kill()


def test_it_lives_is_not_ready_and_says_why(loading, tmp_path):
    assert loading.ask("/healthz") == {"live": True}
    ready = httpx.get(f"{loading.url}/readyz")
    assert ready.status_code == 503 and ready.json()["ready"] is False
    assert "looking for an engine" in ready.json()["reasons"][0]
    for method, path, body in (("POST", "/v1/videos", {"prompt": "a red ring"}), ("GET", "/v1/models", None)):
        refused = httpx.request(method, loading.url + path, json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "engine_unavailable")
        assert refused.headers["retry-after"] and "the service is starting: loading" in refused.text
    assert loading.ask("/v1/videos/none")["error"]["code"] == "not_found", "what is in the store is there"
    assert "videogen_ready 0.0" in loading.text("/metrics")
    with Store.open(f"embedded:{tmp_path}/home/store") as store:
        assert not store.requests()
