"""The champion changes again and again under load, each time to a version that has to be loaded."""

import itertools
import time

import pytest

from tests.fixtures import champions
from tests.serving.load import Load
from tests.serving.running import serving
from tests.soak.page import Row, write_row
from videogen.client.sync import Client
from videogen.store.store import Store

SWAPS = 20
SECONDS = 60.0


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_swaps_fail_no_request(tmp_path, shared_artifacts):
    versions = [champions.version(shared_artifacts, tmp_path / f"model-{n}", n) for n in (1, 2, 3)]
    with Store.open(f"embedded:{tmp_path}/store") as store:
        champions.promote(store, versions[0])
        url = shared_artifacts.url
        with (
            serving(tmp_path, None, "--log-format", "json", synthetic=False, VIDEOGEN_ARTIFACTS_URL=url) as service,
            Client(f"127.0.0.1:{service.grpc}") as client,
        ):
            started = time.monotonic()
            with Load(tmp_path / "journal", service) as load:
                for champion in itertools.islice(itertools.cycle([*versions[1:], versions[0]]), SWAPS):
                    load.until_ended(3)
                    champions.promote(store, champion)
                    deadline = time.monotonic() + SECONDS
                    while not _admitted(client, champion.version_digest):
                        assert time.monotonic() < deadline, service.log.read_text()
                        time.sleep(0.05)
                load.until_ended(3)
            seconds, swaps = time.monotonic() - started, client.stats()["swaps"]
            loads = service.log.read_text().count("loading the engine")
    outcome = load.outcome()
    assert (swaps["succeeded"], swaps["failed"], loads) == (SWAPS, 0, SWAPS + 1)
    assert (outcome.failed, outcome.lost, outcome.changed, outcome.twice, outcome.refused) == (0, 0, 0, 0, 0)
    write_row(Row(f"{SWAPS} hot swaps, each loads a version", seconds, outcome))


def _admitted(client, digest):
    return any(one["admitted"] and one["digest"] == digest for one in client.stats()["versions"])
