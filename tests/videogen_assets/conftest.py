"""A whole installation in a temporary folder: real store, real MLflow, real engines of a small random model."""

from dataclasses import dataclass
from pathlib import Path
from shutil import copytree

import dagster as dg
import pytest

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.media import MediaResource
from resources.registry import RegistryResource
from resources.service import ServiceResource
from resources.store import StoreResource
from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine
from videogen.manifest import build_manifest
from videogen.resolve import WEIGHTS


@dataclass(frozen=True)
class Installation:
    """The resources as the code location makes them, and an instance that forgets."""

    home: Path
    instance: dg.DagsterInstance
    resources: dict[str, dg.ConfigurableResource]

    @property
    def store(self):
        return self.resources["store"].store()

    @property
    def artifacts(self):
        return self.resources["artifacts"].artifacts()

    @property
    def registry(self):
        return self.resources["registry"].registry()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    """A small model of random weights: fast, and never right."""
    return write_random_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory, tiny_folder, skeletons) -> Path:
    """The weights, graphs and one engine of the small model, for tests to copy: exporting takes seconds."""
    artifacts, digest = Artifacts(str(tmp_path_factory.mktemp("built-once"))), build_manifest(tiny_folder).digest
    copytree(skeletons, artifacts.root / skeletons.name)
    artifacts.build(WEIGHTS, digest, lambda scratch: copytree(tiny_folder, scratch, dirs_exist_ok=True))
    ensure_engine(artifacts, tiny_folder, digest, builder_for("onnxruntime"), "fp32")
    return artifacts.root


@pytest.fixture(scope="session")
def measured_once(tmp_path_factory) -> Path:
    """Where first runs of a version leave what they measured, for tests that start from their ends to copy."""
    return tmp_path_factory.mktemp("measured-once")


@pytest.fixture
def installation(tmp_path, mlflow_uri, built_once, monkeypatch):
    home = tmp_path / "home"
    copytree(built_once, home / "artifacts")
    monkeypatch.setenv("VIDEOGEN_HOME", str(home))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    monkeypatch.setenv("VIDEOGEN_THREADS", "1")
    for name in ("VIDEOGEN_STORE_URL", "VIDEOGEN_ARTIFACTS_URL", "VIDEOGEN_TARGETS"):
        monkeypatch.delenv(name, raising=False)
    resources = {
        "artifacts": ArtifactsResource(),
        "device": DeviceResource(),
        "engines": EnginesResource(),
        "media": MediaResource(),
        "registry": RegistryResource(),
        "service": ServiceResource(),
        "store": StoreResource(),
    }
    with dg.DagsterInstance.ephemeral() as instance:
        yield Installation(home, instance, resources)
    resources["store"].store().close()
