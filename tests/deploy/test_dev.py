"""`make dev`: the UIs answer, show what is there, the service starts with the first champion, and all end together."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from deploy.local.dev import ports_for_service
from deploy.local.processes import listens
from tests.fixtures.browser import chromium_page
from tests.fixtures.champions import MODEL as SERVED
from tests.fixtures.champions import promote, version
from tests.fixtures.servers import free_port
from videogen import mlflow_client
from videogen.commands.examinations import daemon_absence
from videogen.models.spec import read_spec
from videogen.opening import open_artifacts, open_store
from videogen.requests import Request, accept
from videogen.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parents[2]
MODEL, SECONDS = "a-model-to-see", 300


@dataclass(frozen=True)
class Dev:
    """`make dev` while it runs."""

    process: subprocess.Popen
    log: Path
    settings: Settings
    dagster: int
    mlflow: int
    http: int
    grpc: int

    def until(self, holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def says(self, text: str) -> None:
        self.until(lambda: text in self.log.read_text())

    def nothing_is_left(self) -> bool:
        return not any(map(listens, (self.dagster, self.mlflow, self.http, self.grpc)))


@contextmanager
def started(folder: Path, mlflow_template: Path | None) -> Iterator[Dev]:
    """It begins; one model to see, without a version to start a run for, or no state at all."""
    home, ports = folder / "home", {name: free_port() for name in ("dagster", "mlflow", "http", "grpc")}
    ours = {"VIDEOGEN_HOME": str(home), **{f"VIDEOGEN_{name.upper()}_PORT": str(port) for name, port in ports.items()}}
    settings, log = read_settings(ours), folder / "dev.log"
    if mlflow_template:
        home.mkdir()
        shutil.copyfile(mlflow_template, home / "mlflow.db")
        with mlflow_client.session(settings.tracking_uri, settings.tracking_uri) as client:
            client.create_registered_model(MODEL)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIDEOGEN_", "MLFLOW_"))}
    command = [sys.executable, "-m", "deploy.local.dev"]
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env={**kept, **ours}, stdout=output, stderr=output)
    dev = Dev(process, log, settings, **ports)
    try:
        yield dev
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        assert dev.nothing_is_left(), "something was left running"


@pytest.fixture(scope="module")
def dev(tmp_path_factory, mlflow_template) -> Iterator[Dev]:
    """Both UIs are up."""
    with started(tmp_path_factory.mktemp("dev"), mlflow_template) as dev:
        dev.until(lambda: listens(dev.dagster) and listens(dev.mlflow))
        yield dev


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_both_pages_show_what_is_there(dev):
    dagster, mlflow = (f"http://127.0.0.1:{port}" for port in (dev.dagster, dev.mlflow))
    with chromium_page() as page:
        page.goto(f"{dagster}/assets", timeout=SECONDS * 1000)
        for asset in ("model_weights", "quality_report", "promotion", "generated_videos"):
            page.get_by_text(asset, exact=True).first.wait_for(timeout=SECONDS * 1000)
        page.goto(f"{dagster}/automation", timeout=SECONDS * 1000)
        for sensor in ("new_model_versions", "waiting_requests", "failed_batch_runs"):
            page.get_by_text(sensor).first.wait_for(timeout=SECONDS * 1000)
        page.goto(f"{mlflow}/#/models", timeout=SECONDS * 1000)
        page.get_by_text(MODEL).first.wait_for(timeout=SECONDS * 1000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_service_starts_with_the_first_champion_and_makes_what_is_submitted(dev, skeletons, tmp_path):
    dev.says(f"Service  not yet: {SERVED} has no champion; `make demo` makes one")
    assert not listens(dev.grpc)
    folder = tmp_path / "model"
    artifacts = open_artifacts(dev.settings)
    shutil.copytree(skeletons, artifacts.root / skeletons.name)
    with open_store(dev.settings) as store:
        champion = promote(store, version(artifacts, folder, 1))
        dev.says(f"Service  http://127.0.0.1:{dev.http}/docs, gRPC at 127.0.0.1:{dev.grpc}")
        wishes = [Request(prompt="a small red ring moving up", seed=seed) for seed in range(3)]
        accepted = [accept(w, read_spec(folder), champion.version_digest, label=champion.label) for w in wishes]
        ids = [store.submit(one, source="test").id for one in accepted]
        dev.until(lambda: {store.request(one).state for one in ids} == {"done"})
        made = [store.video(r.video, r.generation).provenance for r in map(store.request, ids)]
    assert all(str(one["service"]).startswith("serve-") and one["dagster_run"] == one["holder"] for one in made)

    assert daemon_absence(dev.settings) is None
    for child in psutil.Process(dev.process.pid).children():
        if "serve" in child.cmdline():
            child.kill()
    assert dev.process.wait(60) == 1
    assert "videogen-serve ended with code -9" in dev.log.read_text() and dev.nothing_is_left()
    assert daemon_absence(dev.settings) == "is not running"


@pytest.mark.slow
def test_ctrl_c_ends_all_of_it_while_it_starts_too(tmp_path, mlflow_template):
    with started(tmp_path, mlflow_template) as dev:
        dev.until((dev.settings.home / "logs" / "dagster-daemon.log").exists)
        family = psutil.Process(dev.process.pid).children(recursive=True)
        dev.process.send_signal(signal.SIGINT)
        dev.process.wait(60)
        assert family and not psutil.wait_procs(family, timeout=10)[1]
    assert "stopped; the state stays in place" in dev.log.read_text()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_on_an_empty_state_mlflows_database_is_made_whole_before_anything_opens_it(tmp_path):
    with started(tmp_path, mlflow_template=None) as dev:
        database, logs = dev.settings.home / "mlflow.db", dev.settings.home / "logs"
        dev.says(f"starting Dagster and MLflow on the state in {dev.settings.home}")
        assert not logs.exists(), "it is said before anything is started"
        dev.until(database.exists)
        with contextlib.closing(sqlite3.connect(database)) as connection:
            experiments = connection.execute("SELECT name, artifact_location FROM experiments").fetchall()
        assert experiments == [("Default", str(dev.settings.tracking_artifacts / "0"))]
        dev.says(f"Service  not yet: {SERVED} has no champion; `make demo` makes one")
        others = [(logs / f"{name}.log").read_text() for name in ("mlflow", "dagster-daemon", "dagster-webserver")]
        assert not any("Creating initial MLflow database tables" in log for log in others)


def test_without_its_ports_it_goes_on_without_a_service_and_says_why(monkeypatch):
    said: list[str] = []
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("VIDEOGEN_GRPC_PORT", str(other.getsockname()[1]))
        monkeypatch.setenv("VIDEOGEN_HTTP_PORT", str(free_port()))
        assert ports_for_service(read_settings(), said.append) is None
    assert said[0].startswith("Service  none: port ") and "VIDEOGEN_GRPC_PORT=" in said[0]
    assert ports_for_service(read_settings(), said.append) is not None and len(said) == 1


def test_a_service_that_the_user_names_is_used_and_none_is_started(monkeypatch):
    said: list[str] = []
    monkeypatch.setenv("VIDEOGEN_SERVICE_URL", "videos.example:50051")
    assert ports_for_service(read_settings(), said.append) is None
    assert said == ["Service  videos.example:50051, as VIDEOGEN_SERVICE_URL says"]
