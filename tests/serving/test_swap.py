"""The champion changes under load: real networks, a real store, real sockets."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.fixtures import champions
from tests.serving.load import Load
from tests.serving.running import serving
from videogen.artifacts import Artifacts
from videogen.client.sync import Client
from videogen.store.store import Store

pytestmark = pytest.mark.slow
SECONDS = 90.0


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Three versions: two that answer, and one whose decoder knows one colour only."""
    root = tmp_path_factory.mktemp("versions")
    artifacts = Artifacts(str(root / "artifacts"))
    one, two = (champions.version(artifacts, root / str(number), number) for number in (1, 2))
    champions.write_random_tiny(root / "3", seed=3)
    weights = root / "3" / "vae" / "diffusion_pytorch_model.safetensors"
    save_file({name: np.zeros_like(of) for name, of in load_file(weights).items()}, weights, {"format": "pt"})
    return SimpleNamespace(artifacts=artifacts, one=one, two=two, grey=champions.kept(artifacts, root / "3", 3))


@pytest.fixture
def served(versions, tmp_path):
    """A service of version 1, and the store that it follows."""
    with Store.open(f"embedded:{tmp_path}/store") as store:
        champions.promote(store, versions.one)
        url = versions.artifacts.url
        with serving(tmp_path, None, "--log-format", "json", synthetic=False, VIDEOGEN_ARTIFACTS_URL=url) as service:
            yield SimpleNamespace(service=service, store=store, journal=tmp_path / "journal")
        assert service.process.returncode == 0, service.log.read_text()


def until(what):
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stats(service):
    with Client(f"127.0.0.1:{service.grpc}") as client:
        return client.stats()


def admitted(service):
    return next(one["digest"] for one in stats(service)["versions"] if one["admitted"])


def test_a_new_champion_takes_over_under_load_and_a_rollback_loads_nothing(served, versions):
    service = served.service
    with Load(served.journal, service) as load:
        load.until_ended(3)
        champions.promote(served.store, versions.two)
        until(lambda: admitted(service) == versions.two.version_digest)
        load.until_ended(5)
        with Client(f"127.0.0.1:{service.grpc}") as client:
            back = client.rollback()
        assert back["serving"] == versions.one.label
        load.until_ended(5)
    outcome = load.outcome()
    assert (outcome.failed, outcome.lost, outcome.changed, outcome.twice, outcome.refused) == (0, 0, 0, 0, 0)
    answered = [note.facts["version"] for note in load.ends]
    assert set(answered) == {versions.one.version_digest, versions.two.version_digest}
    assert answered[-1] == versions.one.version_digest
    swaps = stats(service)["swaps"]
    assert (swaps["succeeded"], swaps["failed"]) == (2, 0) and swaps["last_s"] < 1.0
    metrics = service.text("/metrics")
    assert 'videogen_swaps_total{outcome="succeeded"} 2.0' in metrics
    assert "videogen_swap_seconds " in metrics and "videogen_swap_longest_gap_seconds " in metrics


def test_a_champion_that_cannot_be_served_leaves_the_old_one_in_service(served, versions):
    service = served.service
    with Load(served.journal, service, callers=1) as load:
        champions.promote(served.store, versions.grey)
        until(lambda: stats(service)["warnings"])
        (told,) = stats(service)["warnings"]
        assert "the champion is not served" in told and "one colour" in told
        assert service.ask("/readyz") == {"ready": True, "reasons": [], "warnings": [told]}
        assert admitted(service) == versions.one.version_digest
        load.until_ended(3)
        served.store.rollback(champions.MODEL)
        until(lambda: not stats(service)["warnings"])
    assert {note.facts["version"] for note in load.ends} == {versions.one.version_digest}
    assert load.outcome().failed == 0
    assert [one["digest"] for one in stats(service)["versions"]] == [versions.one.version_digest]
    assert 'videogen_swaps_total{outcome="failed"} 1.0' in service.text("/metrics")
