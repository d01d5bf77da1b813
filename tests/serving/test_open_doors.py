"""`videogen serve` is not open by mistake: where it may listen, and who may call it then."""

import os
import subprocess
import sys

import httpx
import pytest

from tests.serving.running import serving
from videogen.store.store import Store

PROGRAM = "from videogen.cli import app; app()"


def test_a_public_address_without_keys_is_refused(tmp_path):
    command = [sys.executable, "-c", PROGRAM, "serve", "--synthetic", "--host", "0.0.0.0", "--http-port", "0"]
    environment = {**os.environ, "VIDEOGEN_HOME": str(tmp_path)}
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 2 and "--insecure" in refused.stderr
    assert refused.stderr.startswith("videogen: host: got '0.0.0.0'")


@pytest.mark.slow
def test_with_a_key_every_change_needs_one_from_this_machine_too(tmp_path):
    with Store.open(f"embedded:{tmp_path}/store") as store:
        text, _ = store.api_keys.create("acme")
        other, _ = store.api_keys.create("beta")
    with serving(tmp_path, None, "--host", "0.0.0.0") as service:
        base, body = service.url, {"prompt": "a large red ring moving left"}
        mine, theirs = ({"authorization": f"Bearer {key}"} for key in (text, other))
        job = httpx.post(f"{base}/v1/videos", json=body, headers=mine).json()
        path = f"{base}/v1/videos/{job['id']}"
        assert httpx.post(f"{base}/v1/videos", json=body).status_code == 401
        for method, url in (("GET", path), ("DELETE", path), ("POST", f"{path}/remix"), ("POST", f"{path}/cancel")):
            assert httpx.request(method, url).status_code == 401, url
        assert httpx.get(path, headers=theirs).status_code == 404
        assert httpx.get(path, headers=mine).status_code == 200
        assert httpx.get(f"{base}/healthz").status_code == 200
