"""The store's doctor, on real servers that are set up badly."""

import sqlite3
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.fixtures.servers import aerospike_server, redis_server
from videogen.cli import app
from videogen.store.backends import embedded_doctor
from videogen.store.backends.aerospike import doctor as checks
from videogen.store.backends.catalog import open_records

CONFIG = """service {
	run-as-daemon false
	cluster-name doctor
	node-id a1
	proto-fd-max 1024
	work-directory /opt/aerospike
}
logging {
	console {
		context any info
	}
}
mod-lua {
	user-path /opt/aerospike/usr/udf/lua
}
network {
	service {
		address 127.0.0.1
		port 3000
		access-address 127.0.0.1
	}
	heartbeat {
		mode mesh
		address 127.0.0.1
		port 3002
	}
	fabric {
		address 127.0.0.1
		port 3001
	}
}
namespace videogen {
	replication-factor 1
	max-record-size 256K
	storage-engine device {
		file /opt/aerospike/data/videogen.dat
		filesize 2G
		evict-used-pct 40
	}
}
"""


def findings(url: str) -> dict[str, str]:
    """What is to be fixed -> how."""
    records = open_records(url)
    found = {one.what: one.remedy for one in records.examine() if one.state == "fix"}
    records.close()
    return found


def doctor(*arguments: str):
    return CliRunner().invoke(app, ["store", "doctor", *arguments])


def test_a_redis_that_may_lose_requests_is_told_apart_from_one_that_may_not(tmp_path):
    bad = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
    with redis_server(tmp_path, *bad) as (url, _):
        found = findings(url)
        assert len(found) == 2 and "allkeys-lru" in " ".join(found) and "appendonly no" in " ".join(found)
        result = doctor(url)
        assert result.exit_code == 1 and "2 to fix" in result.stdout
        assert "redis-cli config set maxmemory-policy noeviction" in result.stdout
    good = tmp_path / "good"
    good.mkdir()
    with redis_server(good, "--appendonly", "yes", "--appendfsync", "always") as (url, _):
        assert findings(url) == {}
        assert doctor(url).exit_code == 0


def test_a_replica_is_no_place_to_write(tmp_path):
    with redis_server(tmp_path, "--appendonly", "yes", "--replicaof", "127.0.0.1 1") as (url, _):
        assert any("it is a slave" in what for what in findings(url))


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "aerospike://127.0.0.1:1/videogen"])
def test_a_server_that_does_not_answer_is_named_with_what_to_try(url):
    if url.startswith("aerospike"):
        pytest.importorskip("aerospike")
    result = doctor(url)
    assert result.exit_code == 1 and url in result.stdout
    assert "nothing answers at 127.0.0.1:1" in result.stdout and "is it started" in result.stdout
    assert "-p 1 " in result.stdout


def test_a_server_that_wants_a_password_is_not_taken_for_one_that_is_away(tmp_path):
    with redis_server(tmp_path, "--requirepass", "right") as (url, _):
        result = doctor(url.replace("//", "//:wrong@"))
        assert result.exit_code == 1 and "with this user and password" in result.stdout


def test_an_embedded_store_says_where_it_is(tmp_path):
    open_records(f"embedded:{tmp_path}").close()
    result = doctor(f"embedded:{tmp_path}")
    for words in (str(tmp_path), f"SQLite {sqlite3.sqlite_version}", "bytes used", "bytes free"):
        assert words in result.stdout


@pytest.mark.parametrize(("file_system", "found"), [("tmpfs", "in memory alone"), ("nfs4", "network"), ("ext4", None)])
def test_a_folder_that_is_no_place_for_an_embedded_store_is_found(tmp_path, file_system, found):
    fixes = [one.what for one in embedded_doctor.examine(tmp_path, 0, file_system) if one.state == "fix"]
    assert [found in one for one in fixes if "bytes free" not in one] == ([True] if found else [])


def test_a_full_disk_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(embedded_doctor, "LEAST_FREE", 1 << 60)
    assert any("without room" in one.what for one in embedded_doctor.examine(tmp_path, 0, None))


def test_the_file_system_is_that_of_the_deepest_mount():
    mounts = (
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:5 / /data rw shared:1 - nfs4 host:/x rw\n"
        "3 1 0:6 / /my\\040disk rw - tmpfs none rw\n"
    )
    for folder, kind in (("/data/store", "nfs4"), ("/database", "ext4"), ("/my disk/a", "tmpfs")):
        assert embedded_doctor.mounted_at(Path(folder), mounts) == kind


def test_memory_alone_is_to_be_fixed_on_aerospike_as_on_redis():
    facts = {"objects": "1", "nsup-period": "10", "storage-engine": "memory", "effective_replication_factor": "1"}
    cluster = checks.Cluster({"A1": "8.1"}, {"A1": "Community"}, {"n": {"A1": facts}}, {}, 0.0, "x")
    found = checks.examine(cluster)
    assert [one.what for one in found if one.state == "fix"] == [
        "n on A1: in memory alone: a restart of all nodes loses everything"
    ]
    assert found[0].what.startswith("x: 1 node of")
    kept = facts | {"storage-engine.file[0]": "/data"}
    cluster = checks.Cluster({"A1": "8.1"}, {"A1": "Community"}, {"n": {"A1": kept}}, {}, 0.0, "x")
    assert "1 copy," in " ".join(one.what for one in checks.examine(cluster))


def test_each_bad_setting_of_a_real_aerospike_is_found_and_its_fix_works(tmp_path):
    with aerospike_server(CONFIG, tmp_path) as node:
        found = findings(node.url())
        for word in ("nsup-period 0 refuses", "max-record-size 262,144", "flush-max-ms 1000", "evict-used-pct 40"):
            assert any(word in what for what in found), found
        client = open_records(node.url()).client
        for remedy in found.values():
            client.info_all(remedy.partition("'")[2].partition("'")[0])
        assert findings(node.url()) == {}
        assert any("there is no such namespace" in what for what in findings(node.url("other")))


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"stop_writes": "true"}, "refuses writes"),
        ({"data_used_pct": "65", "storage-engine.stop-writes-used-pct": "70"}, "65 % used; at 70 %"),
        ({"default-ttl": "3600"}, "requests that still wait would disappear"),
    ],
)
def test_what_a_small_server_cannot_show(facts, found):
    fine = {"objects": "1", "nsup-period": "10", "max-record-size": "1048576", "effective_replication_factor": "2"}
    nodes = {"A1": fine | facts}
    cluster = checks.Cluster({"A1": "8.1"}, {"A1": "Enterprise"}, {"n": nodes}, {}, 0.0, "x")
    assert [one.what for one in checks.examine(cluster) if one.state == "fix" and found in one.what]


def test_nodes_that_do_not_see_each_other_and_clocks_that_differ():
    statistics = {"A1": {"cluster_size": "1", "cluster_clock_skew_ms": "9000"}, "A2": {"cluster_size": "1"}}
    cluster = checks.Cluster({"A1": "8.1", "A2": "8.2"}, {}, {}, statistics, 60.0, "x")
    found = " ".join(one.what for one in checks.examine(cluster))
    assert "do not agree" in found and "differ by 9 s" in found and "by +60 s" in found and "several versions" in found
