"""`videogen serve` is not open by mistake: where it may listen, and who may call it then."""

import os
import signal
import subprocess
import sys
import time

import httpx
import pytest

from tests.fixtures.servers import free_port
from videogen.store.store import Store

PROGRAM = "from videogen.cli import app; app()"


def served(home, *options: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, "serve", "--synthetic", "--grpc-port", "0", *options]
    environment = {**os.environ, "VIDEOGEN_HOME": str(home)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_a_public_address_without_keys_is_refused(tmp_path):
    with served(tmp_path, "--host", "0.0.0.0", "--http-port", "0") as service:
        told = service.communicate(timeout=60)[1]
    assert service.returncode == 2 and "--insecure" in told and told.startswith("videogen: host: got '0.0.0.0'")


@pytest.mark.slow
def test_with_a_key_every_change_needs_one_from_this_machine_too(tmp_path):
    with Store.open(f"embedded:{tmp_path}/store") as store:
        text, _ = store.api_keys.create("acme")
        other, _ = store.api_keys.create("beta")
    port = free_port()
    base, body = f"http://127.0.0.1:{port}", {"prompt": "a large red ring moving left"}
    with served(tmp_path, "--host", "0.0.0.0", "--http-port", str(port)) as service:
        try:
            deadline = time.monotonic() + 60
            while not _is_ready(base):
                assert time.monotonic() < deadline and service.poll() is None
                time.sleep(0.1)
            mine, theirs = ({"authorization": f"Bearer {key}"} for key in (text, other))
            job = httpx.post(f"{base}/v1/videos", json=body, headers=mine).json()
            path = f"{base}/v1/videos/{job['id']}"
            assert httpx.post(f"{base}/v1/videos", json=body).status_code == 401
            for method, url in (("GET", path), ("DELETE", path), ("POST", f"{path}/remix"), ("POST", f"{path}/cancel")):
                assert httpx.request(method, url).status_code == 401, url
            assert httpx.get(path, headers=theirs).status_code == 404
            assert httpx.get(path, headers=mine).status_code == 200
            assert httpx.get(f"{base}/healthz").status_code == 200
        finally:
            service.send_signal(signal.SIGTERM)
            assert service.wait(60) == 0


def _is_ready(base: str) -> bool:
    try:
        return httpx.get(f"{base}/readyz").status_code == 200
    except httpx.TransportError:
        return False
