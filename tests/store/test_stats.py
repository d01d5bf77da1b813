"""What a store holds: counted against what was put into it, by look, by Prometheus series and on a terminal."""

import dataclasses
import json
import re
import signal
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from tests.fixtures.servers import redis_server
from tests.store.builders import accepted, memory_store
from videogen.cli import app
from videogen.commands.store_stats import print_stats
from videogen.errors import RecordNotFound
from videogen.requests import new_id
from videogen.serving.views import view
from videogen.store.backends.catalog import open_records
from videogen.store.metrics import MOST_TENANTS, OTHERS, StoreMetrics
from videogen.store.primitives import BackendFacts, MapPut, Set, Write
from videogen.store.records import Champion, StoreLimits
from videogen.store.servers import Server
from videogen.store.stats import ReplicaStats, RequestCount, look
from videogen.store.store import Store


def fill(store: Store) -> None:
    """5 wait, of two tenants; 2 in a batch, one of them being made; 3 done, 1 failed, 1 cancelled, 1 interactive."""
    store.promote("m", Champion("d" * 64, "m@1", {}), 0)
    done = [store.submit(accepted(seed)).id for seed in range(4)]
    *made, spoilt = store.claim(done, "worker", 60.0)
    for at, claim in enumerate(made):
        store.publish(claim, bytes([at]) * 1000, {})
    store.fail(spoilt, "no such colour", retry=False)
    store.cancel(store.submit(accepted(50)).id)
    sealed = [store.submit(accepted(seed)).id for seed in (20, 21)]
    store.claim(store.seal_batch(sealed, 600.0).id, "run", 60.0, limit=1)
    for seed in (10, 11, 12):
        store.submit(accepted(seed))
    for seed in (13, 14):
        store.submit(accepted(seed, tenant="acme"))
    store.submit(accepted(15, lane="interactive"))


REQUESTS = (
    RequestCount("batch", "assigned", "default", 1),
    RequestCount("batch", "queued", "acme", 2),
    RequestCount("batch", "queued", "default", 3),
    RequestCount("batch", "running", "default", 1),
    RequestCount("interactive", "queued", "default", 1),
)


def test_it_counts_what_was_put_in(records):
    store = Store(records)
    fill(store)
    found = store.stats()
    assert found.requests == REQUESTS and found.live == {"batch": 7, "interactive": 1}
    assert found.open_leases == 1 and found.batches == {"running": 1}
    assert found.ended == {"done": 3, "failed": 1, "cancelled": 1} and found.dead_letters == 1
    assert found.answers == {"miss": 3} and (found.claims, found.retries, found.lease_expiries) == (5, 0, 0)
    assert (found.videos, found.video_bytes) == (3, 3000)
    assert found.champions == {"m": "m@1"} and found.cut == () and found.replicas == ()
    assert set(found.oldest_waiting_s) == {"batch", "interactive"}
    assert found.backend.where == records.facts().where


def test_what_failed_and_was_asked_again_is_no_dead_letter(records):
    store = Store(records)
    fill(store)
    (failed,) = store.requests(["failed"])
    store.requeue(failed.id)
    assert store.stats().dead_letters == 0 and store.stats().ended["failed"] == 1


def test_it_tells_how_requests_were_answered_and_how_often_leases_were_taken(clock):
    store = memory_store(clock)
    asked = accepted(1)
    twins = [asked.model_copy(update={"id": new_id()}) for _ in range(4)]
    store.submit(asked), store.submit(twins[0])
    store.claim([asked.id], "late", 10.0)
    store.submit(twins[1])
    clock.pass_(11)
    (claim,) = store.claim([asked.id], "worker", 10.0)
    running = store.stats()
    assert running.answers == {} and (running.claims, running.retries, running.lease_expiries) == (2, 1, 1)
    store.cancel(twins[1].id)
    store.submit(twins[2])
    store.publish(claim, b"mp4", {})
    store.submit(twins[3])
    found = store.stats()
    assert found.answers == {"miss": 1, "joined": 2, "hit": 1}
    assert (found.claims, found.retries, found.lease_expiries) == (2, 1, 1)


def test_a_video_is_a_miss_for_the_one_request_that_it_was_made_for_as_its_usage_says(records):
    store = Store(records)
    asked = [accepted(1).model_copy(update={"id": f"0{number}"}) for number in range(3)]
    for one in asked:
        store.submit(one)
    (claim,) = store.claim([asked[1].id], "worker", 60.0)
    store.publish(claim, b"mp4", claim.facts())
    store.submit(asked[0].model_copy(update={"id": "03"}))
    jobs = [store.request(f"0{number}") for number in range(4)]
    usages = [view(job, store.video(job.video or "", job.generation)).usage for job in jobs]
    assert [usage.cache for usage in usages if usage] == ["joined", "miss", "joined", "hit"]
    assert store.stats().answers == Counter(usage.cache for usage in usages if usage)


def test_services_tell_what_is_in_their_memory(records):
    store = Store(records)
    fill(store)
    digest = next(records.keys("video"))
    assert store.read_video(digest) == store.read_video(digest)
    store.servers.tell(Server("one", frozenset({"d"}), 2.5))
    (seen,) = Store(records).stats().services
    assert (seen.name, seen.per_second, seen.cache) == ("one", 2.5, store.cache_stats())
    assert (seen.cache.hits, seen.cache.loads, seen.cache.bytes) == (1, 1, 1000)


def test_an_empty_store_holds_nothing(records):
    found = Store(records).stats()
    assert (found.requests, found.videos, found.champions, found.oldest_waiting_s) == ((), 0, {}, {})


def test_a_look_changes_nothing(plain):
    store = Store(plain)
    fill(store)
    before = {name: (plain.read(*name, aged=True), plain.map_range(*name)) for name in plain.names()}
    store.stats()
    assert {name: (plain.read(*name, aged=True), plain.map_range(*name)) for name in plain.names()} == before


def test_the_oldest_that_waits_is_the_oldest_that_nobody_makes(clock):
    store = memory_store(clock)
    first = store.submit(accepted(1)).id
    clock.pass_(30)
    store.submit(accepted(2))
    clock.pass_(10)
    assert store.stats().oldest_waiting_s == {"batch": 40.0}
    store.claim([first], "worker", 60.0)
    assert store.stats().oldest_waiting_s == {"batch": 10.0}


def test_what_expired_is_no_video(clock):
    store = memory_store(clock, StoreLimits(keep_videos=100.0))
    fill(store)
    clock.pass_(99)
    assert store.stats().videos == 3
    clock.pass_(1)
    assert (store.stats().videos, store.stats().video_bytes) == (0, 0)


def test_a_look_reads_no_more_than_its_bound_and_says_what_it_cut(plain):
    store = Store(plain)
    for seed in range(30):
        store.submit(accepted(seed))
    for record in store.requests(limit=20):
        (claim,) = store.claim([record.id], "worker", 60.0)
        store.publish(claim, record.id.encode(), {})
    for seed in range(100, 120):
        store.submit(accepted(seed))
    found = look(plain, store._queue, store._batches, store._champions, store.servers, most=15)
    assert sum(one.requests for one in found.requests) == 15 and found.live["batch"] == 30
    assert found.videos == 15 and found.ended == {"done": 15}
    assert found.cut == ("requests of lane batch by state and tenant", "ended requests", "videos")


@pytest.mark.parametrize("damage", ["{", '{"request": 3}', "null"])
def test_damaged_records_are_counted_and_stop_nothing(plain, damage):
    store = Store(plain)
    fill(store)
    request = store.waiting()[0]
    plain.write(Write("request", request.id, (Set("accepted", damage), Set("submitted_at", "soon"))))
    plain.write(Write("champion", "m", (Set("revision", 7),)))
    found = store.stats()
    assert RequestCount("batch", "queued", "?", 1) in found.requests and found.champions == {"m": "damaged"}


def test_a_copy_says_how_far_it_is_behind(plain, clock):
    told = json.dumps({"at": clock() - 12.0, "lag_s": 3.0})
    plain.write(Write("replica", "all", (MapPut("redis://elsewhere:6379", told),)))
    assert Store(plain).stats().replicas == (ReplicaStats("redis://elsewhere:6379", 15.0),)


def series(text: str) -> dict[tuple[str, ...], float]:
    """As an independent reader of the format sees them: name and label values -> value."""
    return {
        (sample.name, *(sample.labels[name] for name in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_the_same_and_what_the_backend_was_asked(records):
    metrics = StoreMetrics()
    store = Store(metrics.metered(records, "some"))
    fill(store)
    digest = next(records.keys("video"))
    assert store.read_video(digest) == store.read_video(digest)
    assert store.read_video(next(one for one in records.keys("video") if one != digest))
    with pytest.raises(RecordNotFound):
        store.read_video("f" * 64)
    found = series(metrics.exposition(store))
    assert found["videogen_store_up",] == 1
    assert found["videogen_store_requests", "batch", "queued", "acme"] == 2
    assert found["videogen_store_open_leases",] == 1 and found["videogen_store_videos",] == 3
    assert found["videogen_store_champion", "m", "m@1"] == 1
    assert found["videogen_store_ended_requests", "failed"] == found["videogen_store_dead_letters",] == 1
    assert found["videogen_store_states_written_total", "generation", "held"] == 5
    assert found["videogen_store_states_written_total", "generation", "done"] == 3
    assert found["videogen_store_states_written_total", "request", "cancelled"] == 1
    hits = [found["videogen_video_cache_hits_total", tier] for tier in ("memory", "store")]
    assert (hits, found["videogen_video_cache_misses_total",]) == ([1, 2], 1)
    assert found["videogen_store_payload_bytes_total", "written"] == 3000
    assert found["videogen_store_payload_bytes_total", "read"] == 2000
    reads = found["videogen_store_operation_seconds_count", "some", "request", "read"]
    assert reads > 0 and found["videogen_store_operation_seconds_sum", "some", "request", "read"] > 0


def test_tenants_beyond_the_bound_are_one_series(plain):
    store = Store(plain)
    for seed in range(MOST_TENANTS + 3):
        store.submit(accepted(seed, tenant=f"t{seed:03d}"))
    store.submit(accepted(999, tenant="t052"))
    found = {key[-1]: value for key, value in series(StoreMetrics().exposition(store)).items()
             if key[0] == "videogen_store_requests"}  # fmt: skip
    assert len(found) == MOST_TENANTS + 1 and found["t052"] == 2 and found[OTHERS] == 3


def test_a_store_that_is_away_is_a_series_and_its_errors_are_counted(tmp_path):
    metrics = StoreMetrics()
    with redis_server(tmp_path) as (url, server):
        store = Store(metrics.metered(open_records(url), "redis"))
        assert series(metrics.exposition(store))["videogen_store_up",] == 1
        server.send_signal(signal.SIGKILL)
        server.wait()
        found = series(metrics.exposition(store))
    assert found["videogen_store_up",] == 0
    assert sum(value for key, value in found.items() if key[0] == "videogen_store_operation_errors_total") >= 1


def test_metered_records_are_the_records(records):
    metered = StoreMetrics().metered(records, "some")
    metered.write(Write("kind", "a", (Set("n", 1), MapPut("k", "v"))))
    assert metered.write(Write("kind", "a", (Set("n", 2),), "only")) is None
    assert metered.read("kind", "a").bins == {"n": 1}
    assert metered.write_many([Write("kind", "b", (Set("n", 1),)), Write("other", "c", ())])[0].bins == {"n": 1}
    assert metered.map_range("kind", "a") == [("k", "v")] and set(metered.keys("kind")) == {"a", "b"}
    assert set(metered.names()) == set(records.names()) and metered.asks_a_server == records.asks_a_server
    metered.flush()


def test_the_page_names_every_series(plain):
    page = (Path(__file__).resolve().parents[2] / "docs" / "store.md").read_text()
    listed = set(re.findall(r"`(videogen_[a-z_]+)", page))
    found = text_string_to_metric_families(StoreMetrics().exposition(Store(plain)))
    families = [family for family in found if not family.name.endswith("_created")]
    assert listed == {f"{one.name}_total" if one.type == "counter" else one.name for one in families}


def test_the_command_prints_it_for_people_and_for_programs(tmp_path):
    url = f"embedded:{tmp_path / 'store'}"
    with Store.open(url) as store:
        fill(store)
        store.read_video(store.requests(["done"])[0].video)
        store.servers.tell(Server("one", frozenset({"d"}), 2.5))
    shown = CliRunner().invoke(app, ["store", "stats", url])
    assert shown.exit_code == 0, shown.output
    facts = ("dead letters    1", "3, 3,000 bytes", "m m@1", "running 1", "acme", "SQLite")
    for text in (*facts, "miss 3", "5 claimed, 0 retried, 0 expired"):
        assert text in shown.output
    assert re.search(r"one +2.50 +0 +1 +0 +0 +1 +1,000 *\n", shown.output), shown.output
    assert re.search(r"read +request +\d+ +\d+\.\d\d +0 *\n", shown.output), shown.output
    plain = json.loads(CliRunner().invoke(app, ["store", "stats", url, "--json"]).output)
    assert plain["live"] == {"batch": 7, "interactive": 1} and plain["dead_letters"] == 1
    assert plain["services"][0]["versions"] == ["d"] and plain["services"][0]["cache"]["loads"] == 1
    assert {"lane": "batch", "state": "queued", "tenant": "acme", "requests": 2} in plain["requests"]
    found = series(CliRunner().invoke(app, ["store", "stats", url, "--prometheus"]).output)
    assert found["videogen_store_live_requests", "batch"] == 7
    assert found["videogen_store_operation_seconds_count", "embedded", "request", "read"] > 0


def test_a_store_that_is_not_there_is_said_to_be_missing_and_not_made(tmp_path):
    shown = CliRunner().invoke(app, ["store", "stats", f"embedded:{tmp_path / 'typo'}"])
    assert shown.exit_code == 2 and not (tmp_path / "typo").exists()


def test_records_that_a_backend_does_not_count_have_no_row(tmp_path, redis_url):
    url = f"{redis_url}?namespace={tmp_path.name}"
    store = Store.open(url)
    store.submit(accepted(1))
    store.close()
    rows = [line.split()[0] for line in CliRunner().invoke(app, ["store", "stats", url]).stdout.splitlines() if line]
    assert "store" in rows and "records" not in rows
    store = Store.open(f"embedded:{tmp_path}")
    store.submit(accepted(1))
    store.close()
    shown = CliRunner().invoke(app, ["store", "stats", f"embedded:{tmp_path}"]).stdout
    assert re.search(r"^records .*request 1", shown, re.MULTILINE)


def test_counts_that_a_server_has_not_made_yet_are_no_row(capsys):
    store = memory_store()
    print_stats(dataclasses.replace(store.stats(), backend=BackendFacts("x", records={})), [])
    assert "records" not in capsys.readouterr().out
