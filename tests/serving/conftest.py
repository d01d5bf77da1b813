from collections.abc import Iterator

import pytest

from tests.serving.running import ROOT, Serve, serving
from videogen.artifacts import Artifacts


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory, shared_artifacts: Artifacts) -> Iterator[Serve]:
    """A real `videogen serve` with the networks of the model that ships, as a newcomer has it: fast."""
    options = ("--model", str(ROOT / "models" / "videogen-tiny" / "2"), "--ungated")
    home, artifacts = tmp_path_factory.mktemp("shipped"), {"VIDEOGEN_ARTIFACTS_URL": shared_artifacts.url}
    with serving(home, None, *options, synthetic=False, seconds=240, **artifacts) as one:
        yield one
    assert one.process.returncode == 0, one.log.read_text()
