import os
import shutil
from pathlib import Path

import pytest

from videogen.locks import file_lock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read once, when torch is imported; tests run side by side


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """No test sees the settings of the shell it was started from."""
    for name in tuple(os.environ):
        if name.startswith(("VIDEOGEN_", "MLFLOW_", "DAGSTER_")):
            monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory, worker_id) -> Path:
    """An empty MLflow database: making its tables takes seconds, copying it none. One for all test workers."""
    shared = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        shared = shared.parent
    template = shared / "mlflow-template" / "mlflow.db"
    with file_lock(shared / "mlflow-template.lock"):
        if not template.exists():
            from videogen.registry import ModelRegistry

            being_made = shared / "mlflow-template-being-made" / "mlflow.db"
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
