"""Processes and servers that are stopped and killed at random times: nothing accepted is lost, nothing made twice.

`make test-faults` runs it, and writes what it came to into `tests/benchmarks/results/faults.md`.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults import servers
from tests.faults.chaos import ENOUGH, Outcome, Setting, run
from tests.faults.report import write_page
from tests.fixtures.servers import aerospike_server

SLACK_S = 1.0
"""More than a server's own window: a slow machine's disk is late."""
SETTINGS = (
    Setting("embedded", servers.embedded, worker_kills=35, worker_stops=6),
    Setting("Redis, appendfsync everysec", partial(servers.redis, fsync="everysec"), 15, 2, 2, 4, 1.0 + SLACK_S),
    Setting("Redis, appendfsync always", partial(servers.redis, fsync="always"), 10, 2, 1, 3),
    Setting("Aerospike, in memory, servers stopped only", servers.aerospike_memory, 15, 2, 3),
    Setting(
        "Aerospike, one node, flush-max-ms 10",
        partial(servers.aerospike_device, flush_max_ms=10),
        *(10, 2, 1, 4),
        window_s=0.01 + SLACK_S,
    ),
    Setting(
        "Aerospike, one node, flush-max-ms 1000",
        partial(servers.aerospike_device, flush_max_ms=1000),
        *(5, 1, 0, 4),
        window_s=1.0 + SLACK_S,
    ),
    Setting("Aerospike, two nodes, two copies", servers.aerospike_pair, 10, 2, 0, 2),
    Setting("Aerospike, two nodes, one hangs", servers.aerospike_pair, 0, 0, 3, 0, is_promised=False),
)
SEED = int(os.environ.get("FAULTS_SEED", "1"))


@pytest.fixture(scope="module")
def outcomes() -> Iterator[list[Outcome]]:
    """Writes the page once every setting has run."""
    found: list[Outcome] = []
    yield found
    if len(found) == len(SETTINGS):
        write_page(found)


@pytest.mark.faults
@pytest.mark.timeout(420)
@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_what_was_promised_holds(setting: Setting, outcomes: list[Outcome], tmp_path: Path):
    outcome = run(setting, tmp_path, SEED)
    found = outcome.audit
    assert found.accepted >= ENOUGH and found.answered > 0 and found.failed > 0
    assert found.accepted == found.answered + found.failed + found.lost
    assert found.torn == 0
    if setting.is_promised:
        assert (found.duplicates, found.resurrected) == (0, 0)
        assert found.window_s <= (setting.window_s or 0.0)
    if setting.is_promised and setting.window_s is None:
        assert (found.lost, found.undone, found.missing) == (0, 0, 0)
    outcomes.append(outcome)


def test_a_hundred_workers_are_killed_in_all():
    assert sum(setting.worker_kills for setting in SETTINGS) == 100


@pytest.mark.faults
def test_the_community_edition_cannot_be_asked_to_write_before_it_answers(tmp_path):
    config = servers.DEVELOPMENT.replace("flush-size 128K", "commit-to-device true\n\t\tflush-size 128K")
    with pytest.raises(AssertionError, match="enterprise-only"), aerospike_server(config, tmp_path):
        pass
