"""The daemon, its code server and the run it started, all killed while a batch is answered; then started again."""

import contextlib
import shutil
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from deploy.local import environment
from deploy.local.orphans import fail_orphans
from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine
from videogen.manifest import build_manifest
from videogen.models.spec import read_spec
from videogen.requests import Request, accept
from videogen.resolve import WEIGHTS
from videogen.settings import read_settings
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store

LABEL, REQUESTS, SECONDS = "videogen-tiny@1", 200, 240


@pytest.fixture
def settings(tmp_path, mlflow_uri, skeletons, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    shutil.copytree(skeletons, tmp_path / "home" / "artifacts" / skeletons.name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("VIDEOGEN_THREADS", "1")
    return read_settings()


@pytest.fixture
def store(settings):
    with Store.open(settings.store_url) as opened:
        yield opened


def submit_all(settings, store: Store, folder: Path) -> list[str]:
    """A champion of random weights that takes many steps, and more requests than are answered at once."""
    write_random_tiny(folder, steps=40)
    digest, artifacts = build_manifest(folder).digest, Artifacts(settings.artifacts_url)
    artifacts.build(WEIGHTS, digest, lambda scratch: shutil.copytree(folder, scratch, dirs_exist_ok=True))
    engine = ensure_engine(artifacts, folder, digest, builder_for("onnxruntime"), "fp32")
    served = ServedEngine(engine.key.digest, "fp32", "no report")
    store.promote("videogen-tiny", Champion(digest, LABEL, {"cpu": served}), 0)
    wishes = [Request(prompt="a small red ring moving up", seed=seed) for seed in range(REQUESTS)]
    accepted = [accept(wish, read_spec(folder), digest, label=LABEL) for wish in wishes]
    return [store.submit(one, source="test").id for one in accepted]


@contextlib.contextmanager
def daemon(variables, log: Path):
    with log.open("ab") as output:
        process = subprocess.Popen(environment.daemon_command(), env=variables, stdout=output, stderr=output)
    try:
        yield process
    finally:
        kill_all(process)


def kill_all(process: subprocess.Popen) -> int:
    """SIGKILL for the daemon, its code server and every run; gives their number."""
    family = []
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    psutil.wait_procs(family, timeout=10)
    return len(family)


def wait_until(what, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-5000:]
        time.sleep(0.5)  # a look reads every record


@pytest.mark.slow
@pytest.mark.timeout(2 * SECONDS + 120)
def test_every_request_is_answered_once_after_everything_was_killed(settings, store, tmp_path):
    ids, log = submit_all(settings, store, tmp_path / "model"), tmp_path / "daemon.log"
    variables = environment.prepare(settings)

    def done() -> int:
        return sum(record.state == "done" for record in store.requests(["done"], limit=REQUESTS))

    with environment.open_instance(settings) as instance:
        with daemon(variables, log) as first:
            wait_until(lambda: done() >= 5, first, log)
            assert kill_all(first) >= 3, "the daemon, its code server and a run"
        before = done()
        assert 5 <= before < REQUESTS, "killed in the midst of it"
        (killed,) = fail_orphans(instance, settings.dagster_home, lambda text: None)
        with daemon(variables, log) as second:
            wait_until(lambda: done() == REQUESTS, second, log)
    records = [store.request(one) for one in ids]
    assert {record.state for record in records} == {"done"}
    runs = [str(store.video(record.video, record.generation).provenance["dagster_run"]) for record in records]
    assert len(set(runs)) == 2 and runs.count(killed) == before
