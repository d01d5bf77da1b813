"""The configurations that ship, on a real server of the community edition."""

import re
from pathlib import Path

import pytest

from tests.fixtures.servers import aerospike_server
from videogen.store.backends.catalog import open_records
from videogen.store.primitives import MAX_PAYLOAD, MapPut, Set, SetPayload, Write

CONFIGS = Path(__file__).resolve().parents[2] / "deploy" / "aerospike"
ENTERPRISE = re.compile(r"^.*\[EE\].*\n", re.MULTILINE)


@pytest.mark.parametrize(
    ("name", "options"),
    [("development", ""), ("production-ce", "?media=videogen_media"), ("enterprise", "?media=videogen_media")],
)
def test_a_configuration_starts_and_takes_what_the_store_writes(name, options, tmp_path):
    config = ENTERPRISE.sub("", (CONFIGS / f"{name}.conf").read_text())
    with aerospike_server(config.replace("replication-factor 2", "replication-factor 1"), tmp_path) as node:
        records = open_records(node.url() + options)
        for kind in ("request", "chunk"):
            records.write(Write(kind, "a", (Set("n", 1), MapPut("k"), SetPayload(bytes(MAX_PAYLOAD))), ttl=100.0))
            assert records.read(kind, "a").bins == {"n": 1}
        records.close()


def test_what_is_marked_as_enterprise_is_what_the_community_edition_refuses(tmp_path):
    config = (CONFIGS / "enterprise.conf").read_text()
    with pytest.raises(AssertionError, match=r"enterprise-only|enterprise"), aerospike_server(config, tmp_path):
        pass


@pytest.mark.parametrize("name", ["development", "production-ce", "enterprise"])
def test_every_option_says_why(name):
    for line in (CONFIGS / f"{name}.conf").read_text().splitlines():
        assert "\t" in line or line.startswith(("#", "}")) or line.endswith("{") or "[EE]" in line or not line, line
