"""What `videogen serve --ungated` is to load: folders, and versions that the registry has."""

from types import SimpleNamespace

import pytest

from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.devices import Device, cpu
from videogen.errors import EngineUnavailable, InvalidRequest, VersionNotFound
from videogen.manifest import build_manifest
from videogen.opening import open_artifacts, open_registry
from videogen.serving.versions.ungated import prepare_ungated
from videogen.settings import read_settings

GPU = Device("nvidia", "GPU-a", "NVIDIA H200", "sm_90", 141 << 30)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A registry with two versions; nothing has pulled them."""
    folder = tmp_path_factory.mktemp("ungated")
    models = [write_random_tiny(folder / str(seed), seed=seed) for seed in (1, 2)]
    settings = read_settings({"VIDEOGEN_HOME": str(folder / "home")})
    settings.home.mkdir()
    for model in models:
        open_registry(settings).register("tiny", model)
    return SimpleNamespace(folder=models[0], second=build_manifest(models[1]).digest, settings=settings)


def prepared(home, reference, device=None, **environment):
    settings = read_settings({"VIDEOGEN_HOME": str(home.settings.home), **environment})
    return prepare_ungated(reference, open_artifacts(settings), device or cpu(), settings)


def test_a_registered_version_is_fetched_and_called_by_its_label(home):
    version, to_load = prepared(home, "tiny@2")
    assert (version.name, version.label, version.version_digest) == ("tiny", "tiny@2", home.second)
    assert version.ungated and to_load.ungated and to_load.engine_key is None
    assert build_manifest(Artifacts(home.settings.artifacts_url).get("weights", home.second)).digest == home.second
    assert to_load.folder.endswith(home.second) and "ring" in version.vocabulary


@pytest.mark.parametrize(
    ("reference", "error", "taught"),
    [
        ("tiny@3", VersionNotFound, "versions of tiny: 1, 2"),
        ("tiny@champion", InvalidRequest, "NAME@NUMBER"),
        ("tiny", InvalidRequest, "NAME@NUMBER of the registry, or a model's folder"),
    ],
)
def test_what_is_no_version_is_told_with_what_there_is(home, reference, error, taught):
    with pytest.raises(error, match=taught):
        prepared(home, reference)


@pytest.mark.parametrize(
    ("targets", "device", "expected"),
    [
        ("cpu", cpu(), "cpu"),
        ("cpu,tensorrt", cpu(), "cpu"),
        ("cpu,tensorrt", GPU, "tensorrt"),
        ("tensorrt-rtx", GPU, "tensorrt-rtx"),
        ("cpu", GPU, "cpu"),
    ],
)
def test_the_target_is_one_of_the_settings_that_the_device_runs(home, targets, device, expected):
    assert prepared(home, str(home.folder), device, VIDEOGEN_TARGETS=targets)[1].target == expected


def test_targets_of_which_none_runs_here_are_told(home):
    with pytest.raises(EngineUnavailable, match=r"none of VIDEOGEN_TARGETS \(tensorrt\) runs on "):
        prepared(home, str(home.folder), VIDEOGEN_TARGETS="tensorrt")
