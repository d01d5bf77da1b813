"""The shell over a real embedded store, killed between any two of its writes."""

import dataclasses
import time

import dagster as dg
import pytest

from resources.store import StoreResource
from sensors.requests import Cursor, Limits, read_cursor, tick, waiting_requests, write_cursor
from tests.sensors.making import DyingRecords, Killed, accepted, submit
from videogen.store import batches
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store

AT_ONCE = Limits(
    requests_per_batch=4, most_per_batch=4, batches_per_tick=2, open_per_version=2, linger=0.0, recover_every=0.0
)


@pytest.fixture
def url(tmp_path):
    return f"embedded:{tmp_path / 'store'}"


@pytest.fixture
def store(url):
    with Store.open(url) as store:
        yield store


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _evaluate(url, instance, cursor=None) -> dg.SensorResult:
    resources = {"store": StoreResource(url=url)}
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
        return waiting_requests(context)


def test_nothing_waits_and_it_says_what_it_looked_at(url, instance):
    result = _evaluate(url, instance)
    assert result.run_requests == []
    assert result.skip_reason.skip_message == (
        "No batch to start: 0 requests waiting, 0 batches sealed, 0 being drained."
    )


def test_waiting_requests_become_a_batch_with_a_partition_and_a_run(url, store, instance):
    ids = submit(store, 3)
    assert _evaluate(url, instance).run_requests == []  # the burst still arrives
    time.sleep(2.1)
    result = _evaluate(url, instance)
    (batch,) = store.batches("sealed")
    assert sorted(batch.request_ids) == sorted(ids)
    (run,) = result.run_requests
    assert (run.run_key, run.partition_key) == (f"{batch.id}:1", batch.id)
    assert run.tags["videogen/attempt"] == "1"
    (partitions,) = result.dynamic_partitions_requests
    assert (partitions.partitions_def_name, list(partitions.partition_keys)) == ("request_batch", [batch.id])
    again = _evaluate(url, instance, result.cursor)
    assert again.run_requests == []
    assert again.skip_reason.skip_message == "No batch to start: 0 requests waiting, 1 batches sealed, 0 being drained."


def test_a_sealed_batch_whose_launch_was_never_stored_is_launched_under_the_same_key(url, store, instance):
    submit(store, 2, deadline=600)
    first = _evaluate(url, instance)
    second = _evaluate(url, instance, cursor=None)  # the daemon died before it stored the cursor
    assert [run.run_key for run in first.run_requests] == [run.run_key for run in second.run_requests]
    assert len(store.batches("sealed")) == 1


def test_no_prompt_travels_in_what_dagster_keeps(url, store, instance):
    store.submit(accepted(1, deadline=600), "test")
    (run,) = _evaluate(url, instance).run_requests
    assert "circle" not in repr(run)
    assert all(len(value) <= 63 for value in run.tags.values())


def test_a_batch_that_no_run_started_on_gives_its_requests_back_and_they_are_sealed_again(store):
    submit(store, 2)
    limits = Limits(**{name: getattr(AT_ONCE, name) for name in ("linger", "recover_every")}, start_within=0.2)
    (first,), cursor, _ = tick(store, Cursor(), limits)
    time.sleep(0.3)
    (second,), _, seen = tick(store, cursor, limits)
    assert "1 given back" in seen
    assert (second.id, second.attempt) == (first.id, 2)  # the same requests: another run of the same partition


def test_a_batch_whose_run_died_gives_its_requests_back(store):
    submit(store, 2)
    (batch,), cursor, _ = tick(store, Cursor(), AT_ONCE)
    assert store.claim(batch.id, holder="run-1", lease_s=0.2)
    time.sleep(0.3)
    (again,), _, _ = tick(store, cursor, AT_ONCE)
    assert again.run_key == f"{batch.id}:2"


def test_a_request_that_is_cancelled_between_look_and_seal_is_left_out(store):
    kept, cancelled = submit(store, 2)
    store.cancel(cancelled)
    (batch,), _, _ = tick(store, Cursor(), AT_ONCE)
    assert store.batch(batch.id).request_ids == (kept,)


def test_a_tick_does_a_bounded_amount_of_work(store):
    submit(store, 11)
    launches, cursor, seen = tick(store, Cursor(), AT_ONCE)
    assert [len(store.batch(batch.id).request_ids) for batch in launches] == [4, 4]
    assert "8 or more requests waiting" in seen
    assert tick(store, cursor, AT_ONCE)[0] == []  # the version has its two open batches


def test_a_fast_version_gets_more_into_a_run_than_one_whose_speed_is_unknown(store):
    ids = submit(store, 11)
    request = store.request(ids[0])
    model, digest = request.label.rpartition("@")[0], request.version_digest
    engine = ServedEngine("key", "fp32", "report", seconds_per_video=10.0)
    store.promote(model, Champion(digest, request.label, {"cpu": engine}), 0)
    (batch,), _, _ = tick(store, Cursor(), dataclasses.replace(AT_ONCE, most_per_batch=100, open_per_version=1))
    assert len(store.batch(batch.id).request_ids) == 11


def _run_to_the_end(url, cursor: Cursor, launched: list[str]) -> None:
    """Ticks of a healthy process, whose launches and cursor Dagster stores together, until nothing changes."""
    with Store.open(url) as store:
        for _ in range(6):
            launches, cursor, _ = tick(store, cursor, AT_ONCE)
            launched += [batch.run_key for batch in launches]


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_killed_at_any_write_it_neither_loses_nor_doubles_a_request(tmp_path, monkeypatch, after):
    """Every write of a tick in turn; then a new process goes on with the last cursor that was stored."""
    monkeypatch.setattr(batches, "SEAL_S", 0.0)  # who began to seal is dead at once, and not only after a minute
    died, die_at = True, 0
    while died:
        die_at += 1
        folder = tmp_path / f"{die_at}"
        url, launched, cursor = f"embedded:{folder}", [], Cursor()
        with Store.open(url) as store:
            ids = submit(store, 3, "d1") + submit(store, 3, "d2")
        dying = Store(DyingRecords(folder, die_at, after))
        try:
            launches, after_tick, _ = tick(dying, cursor, AT_ONCE)
            launched, cursor, died = [batch.run_key for batch in launches], after_tick, False
        except Killed:
            pass
        dying.close()
        _run_to_the_end(url, cursor, launched)
        with Store.open(url) as store:
            sealed = {f"{batch.id}:{batch.attempt}" for batch in store.batches("sealed")}
            batched = [request for batch in store.batches("sealed") for request in batch.request_ids]
        assert sorted(batched) == sorted(ids), f"killed at write {die_at}"
        assert set(launched) == sealed, f"killed at write {die_at}"
        assert len(launched) == len(set(launched)), f"killed at write {die_at}"
    assert die_at > 6


def test_the_cursor_of_a_real_tick_reads_back(store):
    submit(store, 2)
    _, cursor, _ = tick(store, Cursor(), AT_ONCE)
    assert read_cursor(write_cursor(cursor)) == cursor
