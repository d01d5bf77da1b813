"""`make dev`: both UIs answer, show what is there, and end together."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deploy.local.processes import listens
from tests.fixtures.browser import chromium_page
from tests.fixtures.servers import free_port
from videogen import mlflow_client
from videogen.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
MODEL, SECONDS = "a-model-to-see", 180


@pytest.fixture
def ports(tmp_path, monkeypatch):
    """Dagster's and MLflow's, with `make dev` behind them; one model to see, without a version to start a run for."""
    found = free_port(), free_port()
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VIDEOGEN_DAGSTER_PORT", str(found[0]))
    monkeypatch.setenv("VIDEOGEN_MLFLOW_PORT", str(found[1]))
    uri = read_settings().tracking_uri
    with mlflow_client.session(uri, uri) as client:
        client.create_registered_model(MODEL)
    log = tmp_path / "dev.log"
    with log.open("w") as output:
        dev = subprocess.Popen([sys.executable, "-m", "deploy.local.dev"], cwd=ROOT, stdout=output, stderr=output)
    deadline = time.monotonic() + SECONDS
    while not all(map(listens, found)):
        assert dev.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)
    yield found
    dev.send_signal(signal.SIGINT)
    dev.wait(60)
    assert not any(map(listens, found)), "something was left running"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_pages_show_what_is_there(ports):
    dagster, mlflow = (f"http://127.0.0.1:{port}" for port in ports)
    with chromium_page() as page:
        page.goto(f"{dagster}/assets", timeout=SECONDS * 1000)
        for asset in ("model_weights", "quality_report", "promotion", "generated_videos"):
            page.get_by_text(asset, exact=True).first.wait_for(timeout=SECONDS * 1000)
        page.goto(f"{dagster}/automation", timeout=SECONDS * 1000)
        for sensor in ("new_model_versions", "waiting_requests", "failed_batch_runs"):
            page.get_by_text(sensor).first.wait_for(timeout=SECONDS * 1000)
        page.goto(f"{mlflow}/#/models", timeout=SECONDS * 1000)
        page.get_by_text(MODEL).first.wait_for(timeout=SECONDS * 1000)
