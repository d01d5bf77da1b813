from shutil import copytree

import pytest

from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.engines.cache import ensure_graph
from videogen.manifest import build_manifest


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A small model of four steps without guidance, so that it gets a fused sampler."""
    return write_random_tiny(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def digest(folder):
    return build_manifest(folder).digest


@pytest.fixture(scope="session")
def artifacts(tmp_path_factory, skeletons):
    root = tmp_path_factory.mktemp("artifacts")
    copytree(skeletons, root / skeletons.name)
    return Artifacts(str(root))


@pytest.fixture(scope="session")
def graphs(artifacts, folder, digest):
    return ensure_graph(artifacts, folder, digest)
