"""What a load asks twice comes from the cache where a champion is served, and what it asks once does not."""

import json
from collections import Counter

import pytest
from typer.testing import CliRunner

from tests.fixtures import champions
from tests.serving.running import serving
from videogen.cli import app
from videogen.store.store import Store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


@pytest.fixture
def service(tmp_path, shared_artifacts):
    with Store.open(f"embedded:{tmp_path}/store") as store:
        champions.promote(store, champions.version(shared_artifacts, tmp_path / "model", 1))
    with serving(tmp_path, synthetic=False, seconds=240, VIDEOGEN_ARTIFACTS_URL=shared_artifacts.url) as one:
        yield one


def of_cache(service):
    """Finished jobs, by what the cache had of their videos: hit, joined, miss."""
    jobs = service.ask("/v1/videos?limit=100")["data"]
    return Counter(job["usage"]["cache"] for job in jobs)


def test_repeats_and_only_repeats_are_not_made_again(service, tmp_path):
    out = tmp_path / "out.json"

    def load(*arguments):
        command = ["bench", "load", service.url, "--rate", "5", *arguments, "--json", str(out)]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        return json.loads(out.read_text())

    found = load("--seconds", "4", "--duplicates", "0.5")
    made, spared = found["all"]["sent"] - found["repeats"]["sent"], found["repeats"]["sent"]
    seen = of_cache(service)
    assert (seen["miss"], seen["hit"] + seen["joined"]) == (made, spared) and spared > 0
    once = load("--seconds", "1", "--cache")["all"]["sent"]
    assert of_cache(service)["miss"] == made + once
    again = load("--seconds", "1", "--cache")["all"]["sent"]
    assert again == once and of_cache(service)["miss"] == made + once
    other = load("--seconds", "1")["all"]["sent"]  # what nobody asked for before
    assert of_cache(service)["miss"] == made + once + other
