from pathlib import Path

import pytest

from videogen.artifacts import Artifacts


@pytest.fixture(scope="session")
def shared_artifacts(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Artifacts:
    """One for all test workers: the first export of a model's shape takes half a minute, others reuse it."""
    base = Path(tmp_path_factory.getbasetemp())
    return Artifacts(str((base if worker_id == "master" else base.parent) / "shared-artifacts"))
