import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.servers import aerospike_url, redis_server
from videogen.artifacts import Artifacts
from videogen.locks import file_lock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported; tests run side by side
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would hand on that it is ignored


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: they are shared out whole, and the last one should end with the others."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test sees the settings of the shell it was started from."""
    for name in tuple(os.environ):
        if name.startswith(("VIDEOGEN_", "MLFLOW_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """One for all test workers."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def shared_artifacts(shared_folder: Path) -> Artifacts:
    """One for all test workers: the first export of a model's shape takes half a minute, others reuse it."""
    return Artifacts(str(shared_folder / "shared-artifacts"))


@pytest.fixture(scope="session")
def skeletons(shared_artifacts: Artifacts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an export of the small random model leaves, for tests to copy into artifacts of their own."""
    from tests.fixtures.random_models import write_random_tiny
    from videogen.engines.cache import ensure_graph
    from videogen.engines.skeletons import KIND
    from videogen.manifest import build_manifest

    folder = write_random_tiny(tmp_path_factory.mktemp("exported") / "model")
    ensure_graph(shared_artifacts, folder, build_manifest(folder).digest)
    return shared_artifacts.root / KIND


@pytest.fixture(scope="session")
def mlflow_template(shared_folder: Path) -> Path:
    """An empty MLflow database: making its tables takes seconds, copying it none. One for all test workers."""
    template = shared_folder / "mlflow-template" / "mlflow.db"
    with file_lock(shared_folder / "mlflow-template.lock"):
        if not template.exists():
            from videogen.registry import ModelRegistry

            being_made = shared_folder / "mlflow-template-being-made" / "mlflow.db"
            ModelRegistry(f"sqlite:///{being_made}").models()
            being_made.parent.rename(template.parent)
    return template


@pytest.fixture
def mlflow_uri(tmp_path, mlflow_template) -> str:
    """The URI of a real, empty MLflow of the test's own."""
    database = tmp_path / "mlflow" / "mlflow.db"
    database.parent.mkdir()
    shutil.copyfile(mlflow_template, database)
    return f"sqlite:///{database}"


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as (url, _):
        yield url


@pytest.fixture(params=["memory", "embedded", "redis", "aerospike", "dual", "dual-aerospike"])
def backend_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty store on each backend in turn."""
    fresh = uuid.uuid4().hex[:12]
    if request.param == "redis":
        return f"{request.getfixturevalue('redis_url')}?namespace={fresh}"
    if request.param == "aerospike":
        return f"{aerospike_url()}?prefix={fresh}"
    if request.param == "dual":
        return f"dual:embedded:{tmp_path / 'store'}|{request.getfixturevalue('redis_url')}?namespace={fresh}"
    if request.param == "dual-aerospike":
        redis = f"{request.getfixturevalue('redis_url')}?namespace={fresh}"
        return f"dual:{redis}|{aerospike_url()}?prefix={fresh}"
    return {"memory": "memory:", "embedded": f"embedded:{tmp_path / 'store'}"}[request.param]
