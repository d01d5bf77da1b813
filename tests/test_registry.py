import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from deploy.local.processes import listens
from tests.fixtures.servers import free_port
from videogen import mlflow_client
from videogen.artifacts import Artifacts
from videogen.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactRefused,
    RegistryError,
    RegistryUnavailable,
    VersionNotFound,
)
from videogen.manifest import build_manifest
from videogen.registry import ModelRegistry


@pytest.fixture
def registry(mlflow_uri):
    return ModelRegistry(mlflow_uri)


@pytest.fixture
def client(mlflow_uri):
    with mlflow_client.session(mlflow_uri, mlflow_uri) as client:
        yield client


def _model(folder: Path, seed: int = 0) -> Path:
    (folder / "transformer").mkdir(parents=True)
    weights = np.random.default_rng(seed).standard_normal(64)
    save_file({"weight": weights}, folder / "transformer" / "weights.safetensors")
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    return folder


@pytest.fixture
def model(tmp_path):
    return _model(tmp_path / "model")


def _stored(version) -> Path:
    """Where a version's files lie in the local MLflow."""
    return Path(version.source.removeprefix("file://"))


def test_what_is_registered_is_pulled_back_byte_for_byte(registry, model, tmp_path):
    version = registry.register("tiny", model, description="20 steps", tags={"steps": "20"})
    assert (version.name, version.version, version.label) == ("tiny", 1, "tiny@1")
    assert type(version.version) is int
    assert version.digest == version.tags["manifest_digest"] == build_manifest(model).digest
    assert version.tags["steps"] == "20"
    assert version.description == "20 steps"
    pulled = registry.pull("tiny", 1, tmp_path / "pulled")
    assert build_manifest(pulled) == build_manifest(model)
    assert json.loads((pulled / "manifest.json").read_text())["digest"] == version.digest
    assert not (model / "manifest.json").exists()  # registration leaves the folder as it was


def test_the_same_files_are_the_same_version(registry, model, tmp_path):
    first = registry.register("tiny", model)
    assert registry.register("tiny", model) == first
    assert registry.register("tiny", _model(tmp_path / "other", seed=1)).version == 2
    assert [version.version for version in registry.versions("tiny")] == [1, 2]


def test_versions_of_many_models(registry, tmp_path):
    for seed in range(3):
        registry.register("a-model", _model(tmp_path / f"a{seed}", seed))
    registry.register("b-model", _model(tmp_path / "b"))
    assert registry.models() == ["a-model", "b-model"]
    assert [version.label for version in registry.versions()] == ["a-model@1", "a-model@2", "a-model@3", "b-model@1"]
    assert [version.version for version in registry.versions("a-model", newer_than=1)] == [2, 3]
    assert registry.versions("a-model", newer_than=3) == []
    assert registry.versions("unknown") == []
    assert registry.aliases("unknown") == {}


def test_models_at_a_glance(registry, client, tmp_path):
    for seed in range(3):
        registry.register("a-model", _model(tmp_path / f"a{seed}", seed))
    client.create_registered_model("empty")
    registry.set_alias("a-model", "champion", 1)
    registry.set_alias("a-model", "candidate", 3)
    a_model, empty = registry.summaries()
    assert (a_model.name, a_model.latest) == ("a-model", 3)
    assert a_model.latest_digest == registry.version("a-model", 3).digest
    assert a_model.aliases == registry.aliases("a-model") == {"champion": 1, "candidate": 3}
    assert (empty.name, empty.latest, empty.latest_digest, empty.aliases) == ("empty", 0, None, {})


def test_more_versions_than_a_page_and_numbers_sorted_as_numbers(registry, client):
    client.create_registered_model("many")
    for _ in range(55):
        client.create_model_version("many", source="file:///nowhere")
    assert [version.version for version in registry.versions("many")] == list(range(1, 56))
    assert [version.version for version in registry.versions("many", newer_than=53)] == [54, 55]


def test_aliases(registry, model, tmp_path):
    registry.register("tiny", model)
    registry.register("tiny", _model(tmp_path / "other", seed=1))
    registry.set_alias("tiny", "champion", 1)
    registry.set_alias("tiny", "candidate", 2)
    assert registry.aliases("tiny") == {"champion": 1, "candidate": 2}
    assert [version.aliases for version in registry.versions("tiny")] == [("champion",), ("candidate",)]
    registry.set_alias("tiny", "champion", 2)
    assert registry.version("tiny", 2).aliases == ("candidate", "champion")
    registry.delete_alias("tiny", "candidate")
    registry.delete_alias("tiny", "candidate")
    assert registry.aliases("tiny") == {"champion": 2}


@pytest.mark.parametrize(
    "call",
    [
        lambda registry, target: registry.version("tiny", 7),
        lambda registry, target: registry.pull("tiny", 7, target),
        lambda registry, target: registry.set_alias("tiny", "champion", 7),
        lambda registry, target: registry.set_tags("tiny", 7, {"a": "b"}),
    ],
)
def test_an_unknown_version_is_named_with_those_that_exist(registry, model, tmp_path, call):
    registry.register("tiny", model)
    with pytest.raises(VersionNotFound, match=r"tiny@7 is not in the registry; versions of tiny: 1"):
        call(registry, tmp_path / "pulled")


def test_a_version_deleted_while_it_is_pulled(registry, client, model, tmp_path, monkeypatch):
    registry.register("tiny", model)
    fetch = mlflow_client.download

    def download_then_delete(*arguments):
        fetched = fetch(*arguments)
        client.delete_model_version("tiny", "1")
        return fetched

    monkeypatch.setattr(mlflow_client, "download", download_then_delete)
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    with pytest.raises(VersionNotFound, match="tiny@1 is not in the registry; versions of tiny: none"):
        artifacts.build("weights", "k1", lambda folder: registry.pull("tiny", 1, folder) and None)
    assert not artifacts.has("weights", "k1")


def test_a_version_whose_files_and_record_vanish_while_it_is_pulled(registry, client, model, tmp_path, monkeypatch):
    version = registry.register("tiny", model)
    fetch = mlflow_client.download

    def delete_then_download(*arguments):
        shutil.rmtree(_stored(version))
        client.delete_model_version("tiny", "1")
        return fetch(*arguments)

    monkeypatch.setattr(mlflow_client, "download", delete_then_download)
    with pytest.raises(VersionNotFound, match="tiny@1 is not in the registry"):
        registry.pull("tiny", 1, tmp_path / "pulled")


def test_files_that_are_gone_while_the_version_stays(registry, model, tmp_path):
    shutil.rmtree(_stored(registry.register("tiny", model)))
    with pytest.raises(RegistryError, match="tiny@1: its files could not be fetched from file://"):
        registry.pull("tiny", 1, tmp_path / "pulled")
    assert list((tmp_path / "pulled").iterdir()) == []


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _forge(files: Path) -> None:
    _flip(files / "transformer" / "weights.safetensors")
    (files / "manifest.json").write_text(build_manifest(files).to_json())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda files: _flip(files / "transformer/weights.safetensors"), r"weights\.safetensors was changed"),
        (
            lambda files: (files / "transformer/weights.safetensors").write_bytes(b"short"),
            r"weights\.safetensors has 5 b",
        ),
        (lambda files: (files / "model_index.json").unlink(), r"model_index\.json is missing"),
        (lambda files: (files / "evil.py").write_text("import os"), r"evil\.py is not in the manifest"),
        (lambda files: (files / "manifest.json").unlink(), r"manifest\.json is gone"),
        (lambda files: (files / "manifest.json").write_text("{}"), r"manifest\.json is not a manifest"),
        (_forge, r"tiny@1: manifest\.json was changed"),
    ],
    ids=["tampered", "truncated", "missing", "extra", "no manifest", "bad manifest", "forged manifest"],
)
def test_what_is_not_what_was_registered_is_refused_and_nothing_stays(registry, model, tmp_path, damage, message):
    damage(_stored(registry.register("tiny", model)))
    with pytest.raises(ArtifactCorrupt, match=message):
        registry.pull("tiny", 1, tmp_path / "pulled")
    assert list((tmp_path / "pulled").iterdir()) == []


def test_a_pickle_in_place_of_safetensors_is_never_registered(registry, model):
    import pickle

    (model / "transformer" / "weights.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(ArtifactRefused, match="is a pickle"):
        registry.register("tiny", model)
    assert registry.models() == []


def _register_by_hand(client, folder: Path, tags=None) -> None:
    """As some other tool would: no manifest, no checks."""
    client.create_registered_model("tiny")
    client.create_model_version("tiny", source=folder.as_uri(), tags=tags)


def test_a_pickle_that_another_tool_registered_is_never_pulled(registry, client, model, tmp_path):
    import pickle

    (model / "transformer" / "weights.safetensors").write_bytes(pickle.dumps({"weight": [1.0]}))
    _register_by_hand(client, model)
    with pytest.raises(ArtifactRefused, match="is a pickle"):
        registry.pull("tiny", 1, tmp_path / "pulled", pin=True)
    assert registry.version("tiny", 1).digest is None


def test_a_version_without_a_manifest_is_refused_or_pinned_once(registry, client, model, tmp_path):
    _register_by_hand(client, model)
    with pytest.raises(ArtifactRefused, match="tiny@1 was registered without a manifest"):
        registry.pull("tiny", 1, tmp_path / "first")
    registry.pull("tiny", 1, tmp_path / "second", pin=True)
    version = registry.version("tiny", 1)
    assert version.digest == build_manifest(model).digest
    assert version.tags["manifest_pinned"] == "true"


def test_a_pinned_version_pulls_again_and_only_as_it_was_pinned(registry, client, model, tmp_path):
    _register_by_hand(client, model)
    registry.pull("tiny", 1, tmp_path / "first", pin=True)
    assert build_manifest(registry.pull("tiny", 1, tmp_path / "second")) == build_manifest(model)
    _flip(model / "transformer" / "weights.safetensors")
    with pytest.raises(ArtifactCorrupt, match="tiny@1 was pinned as"):
        registry.pull("tiny", 1, tmp_path / "third")


def test_a_pull_wants_an_empty_folder(registry, model, tmp_path):
    registry.register("tiny", model)
    with pytest.raises(ArtifactError, match="is not empty"):
        registry.pull("tiny", 1, model)


def test_an_evaluation_is_written_with_both_ways_to_find_it(registry, client, model, tmp_path):
    version = registry.register("tiny", model)
    (tmp_path / "r.html").write_text("<p>report</p>")
    run_id = registry.log_evaluation(
        version,
        params={f"p{index}": index for index in range(120)} | {"target": "cpu"},
        metrics={"quality/kvd": 0.25},
        artifacts={"report.html": tmp_path / "r.html", "plots/r.html": tmp_path / "r.html", "model": model},
        dagster_run_id="d-1",
    )
    run = client.get_run(run_id)
    assert run.data.metrics == {"quality/kvd": 0.25}
    assert len(run.data.params) == 121
    assert run.data.tags["dagster_run_id"] == "d-1"
    assert run.data.tags["model_version"] == "tiny@1"
    assert run.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(run_id)} == {"report.html", "plots", "model"}
    assert [file.path for file in client.list_artifacts(run_id, "plots")] == ["plots/r.html"]
    assert registry.version("tiny", 1).tags["evaluation_run_id"] == run_id


def test_an_evaluation_that_breaks_off_is_not_left_running(registry, client, model, tmp_path):
    version = registry.register("tiny", model)
    with pytest.raises(FileNotFoundError):
        registry.log_evaluation(version, {}, {}, {"report.html": tmp_path / "nothing.html"}, "d-1")
    experiment = client.get_experiment_by_name("videogen/tiny")
    statuses = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert statuses == {"register tiny": "FINISHED", "evaluate tiny@1": "FAILED"}


def test_pages_for_a_browser(registry, mlflow_uri, model):
    version = registry.register("tiny", model)
    assert registry.ui_url(version) is None
    assert registry.run_url(version.run_id) is None
    shown = ModelRegistry(mlflow_uri, ui="http://127.0.0.1:5000/")
    assert shown.ui_url(version) == "http://127.0.0.1:5000/#/models/tiny/versions/1"
    assert shown.run_url(version.run_id).endswith(f"/runs/{version.run_id}")
    assert ModelRegistry("https://mlflow.example").ui_url(version) == "https://mlflow.example/#/models/tiny/versions/1"


def test_no_global_of_mlflow_is_touched_and_files_stay_beside_the_database(registry, model, tmp_path, monkeypatch):
    import mlflow

    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    version = registry.register("tiny", model)
    registry.pull("tiny", 1, tmp_path / "pulled")
    assert mlflow.get_tracking_uri() == before
    assert _stored(version).is_relative_to(
        Path(registry.tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "pulled", "mlflow"}


def test_a_server_that_is_away_is_said_to_be_away_at_once():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(RegistryUnavailable, match=f"MLflow at {uri} cannot be reached"):
            ModelRegistry(uri).versions("tiny")
        assert time.monotonic() - started < 10


def test_a_database_that_is_none(tmp_path):
    (tmp_path / "mlflow.db").write_bytes(b"not a database" * 1000)
    with pytest.raises(RegistryUnavailable, match="cannot be used"):
        ModelRegistry(f"sqlite:///{tmp_path}/mlflow.db").models()


_OPEN = "import sys; from videogen.registry import ModelRegistry; print(ModelRegistry(sys.argv[1]).models())"


@pytest.mark.slow
def test_two_processes_may_be_the_first(tmp_path):
    command = [sys.executable, "-c", _OPEN, f"sqlite:///{tmp_path}/deep/mlflow.db"]
    first = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in first:
        out, err = process.communicate(timeout=120)
        assert out == "[]\n", err
        assert "Creating initial MLflow database tables" not in err


@pytest.mark.slow
def test_whoever_is_killed_while_making_the_database_leaves_no_part_of_one(tmp_path):
    database = tmp_path / "mlflow.db"
    first = subprocess.Popen([sys.executable, "-c", _OPEN, f"sqlite:///{database}"], start_new_session=True)
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob("mlflow.db*") if path.suffix != ".lock"):
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    first.kill()
    first.wait()
    assert not database.exists()
    assert ModelRegistry(f"sqlite:///{database}").models() == []
    assert {path.name for path in tmp_path.iterdir()} == {"mlflow.db", "mlflow.db.lock"}


def test_two_threads_may_register_the_same_model(registry, tmp_path):
    folders = [_model(tmp_path / f"m{seed}", seed) for seed in range(2)]
    threads = [threading.Thread(target=registry.register, args=("tiny", folder)) for folder in folders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {version.digest for version in registry.versions("tiny")} == {build_manifest(f).digest for f in folders}


@pytest.fixture
def server(mlflow_uri, tmp_path):
    """A real MLflow server on loopback."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", mlflow_uri, "--artifacts-destination", str(tmp_path / "served")),
    ]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not listens(port):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.slow
def test_a_server_decides_where_files_go_and_gives_them_back(server, model, tmp_path):
    registry = ModelRegistry(server)
    version = registry.register("tiny", model)
    registry.set_alias("tiny", "candidate", 1)
    assert version.source.startswith("mlflow-artifacts:/")
    assert registry.aliases("tiny") == {"candidate": 1}
    assert build_manifest(registry.pull("tiny", 1, tmp_path / "pulled")).digest == version.digest
    run_id = registry.log_evaluation(version, {"n": 1}, {"m": 0.5}, {"index.json": model / "model_index.json"}, "d-1")
    assert registry.run_url(run_id).startswith(f"{server}/#/experiments/")
    assert (tmp_path / "served").is_dir()
