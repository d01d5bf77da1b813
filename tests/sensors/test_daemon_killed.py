"""Dagster's sensor daemon over our definitions, killed at every point where it can be between two writes of its own."""

import collections
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from safetensors.numpy import save_file

from deploy.local.processes import listens
from tests.fixtures.servers import free_port
from tests.sensors.making import submit
from videogen.registry import ModelRegistry
from videogen.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
REQUESTS, VERSIONS = "waiting_requests", "new_model_versions"
DEATHS = [
    (REQUESTS, "TICK_CREATED"),
    (REQUESTS, "TICK_HELD"),
    (REQUESTS, "RUN_IDS_RESERVED"),
    (REQUESTS, "RUN_CREATED"),
    (REQUESTS, "RUN_LAUNCHED"),
    (VERSIONS, "RUN_IDS_RESERVED"),
    (VERSIONS, "RUN_CREATED"),
    (VERSIONS, "RUN_LAUNCHED"),
]
TICKS_TO_CATCH_UP = 4
"""One goes on with the tick that died last, and one seals the requests of four versions at most. Which sensor comes
first in a pass is not ours to say, so those of up to seven may be left."""


@pytest.fixture
def environment(tmp_path, mlflow_uri):
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copyfile(ROOT / "deploy" / "dagster.yaml", home / "dagster.yaml")
    ours = {"VIDEOGEN_HOME": str(tmp_path / "home"), "MLFLOW_TRACKING_URI": mlflow_uri, "DAGSTER_HOME": str(home)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VIDEOGEN_", "MLFLOW_"))}
    return {**kept, **ours, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def code_server(environment, tmp_path):
    """A real code server with our definitions, as `dagster-daemon` would start one."""
    port = free_port()
    command = [sys.executable, "-m", "dagster", "api", "grpc", "-m", "videogen_assets.definitions", "-p", str(port)]
    with (tmp_path / "code-server.log").open("w") as log:
        server = subprocess.Popen([*command, "-h", "127.0.0.1"], env=environment, cwd=tmp_path, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while not listens(port):
        assert server.poll() is None, (tmp_path / "code-server.log").read_text()
        assert time.monotonic() < deadline, (tmp_path / "code-server.log").read_text()
        time.sleep(0.1)
    yield port
    server.kill()
    server.wait()


@pytest.fixture
def daemon(environment, code_server, tmp_path):
    command, log = [sys.executable, "-m", "tests.sensors.one_tick", str(code_server)], tmp_path / "daemon.log"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment, cwd=tmp_path, text=True, stdin=-1, stdout=-1, stderr=errors
        ) as daemon,
    ):
        yield daemon


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_request_and_every_version_gets_one_run_whenever_the_daemon_dies(
    environment, daemon, tmp_path, monkeypatch, mlflow_uri
):
    store = Store.open(f"embedded:{tmp_path / 'home' / 'store'}")
    registry, requests, labels, clock = ModelRegistry(mlflow_uri), [], [], 0

    def tick(*crash: str) -> int:
        nonlocal clock
        clock += 31  # seconds: more than any sensor's interval
        print(clock, *crash, file=daemon.stdin, flush=True)
        return int(daemon.stdout.readline())

    def said() -> str:
        return (tmp_path / "daemon.log").read_text()

    for number, (sensor, point) in enumerate(DEATHS):
        requests += submit(store, 2, version=f"d{number}", start=10 * number, deadline=3600)
        labels.append(registry.register("tiny", _model(tmp_path / f"model-{number}", number)).label)
        assert tick(sensor, point) == -signal.SIGKILL, f"{sensor} at {point}: {said()}"
    for _ in range(TICKS_TO_CATCH_UP):
        assert tick() == 0, said()

    sealed = store.batches("sealed")
    batched = [request for batch in sealed for request in batch.request_ids]
    assert sorted(batched) == sorted(requests)
    monkeypatch.setenv("DAGSTER_HOME", environment["DAGSTER_HOME"])
    with dg.DagsterInstance.get() as instance:
        runs = instance.get_runs()
        assert set(instance.get_dynamic_partitions("request_batch")) == {batch.id for batch in sealed}
        assert set(instance.get_dynamic_partitions("model_version")) == set(labels)
    launched = collections.Counter((run.job_name, run.tags["dagster/partition"]) for run in runs)
    wanted = [("batch_generation", batch.id) for batch in sealed] + [("model_lifecycle", label) for label in labels]
    assert launched == collections.Counter(wanted)
    assert {run.tags["dagster/run_key"] for run in runs if run.job_name == "batch_generation"} == {
        f"{batch.id}:{batch.attempt}" for batch in sealed
    }
    store.close()


def _model(folder: Path, seed: int) -> Path:
    folder.mkdir()
    save_file({"weight": np.full(8, float(seed))}, folder / "weights.safetensors")
    return folder
