"""The janitor against a real store and a real instance: what it says it would do, and what it then does."""

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from resources.store import StoreResource
from tests.sensors.making import submit
from videogen.store import orphans
from videogen.store.primitives import Is, Set, Unwritten, Write, every
from videogen.store.store import Store
from videogen_assets.partitions import request_batches
from videogen_assets.upkeep import hourly_upkeep, store_upkeep


@pytest.fixture
def url(tmp_path):
    return f"embedded:{tmp_path / 'store'}"


@pytest.fixture
def store(url):
    with Store.open(url) as store:
        yield store


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def janitor(url, instance, **config):
    ops = {"store_upkeep": {"config": config}} if config else {}
    result = dg.materialize(
        [store_upkeep], instance=instance, resources={"store": StoreResource(url=url)}, run_config={"ops": ops}
    )
    (event,) = result.asset_materializations_for_node("store_upkeep")
    numbers = {name: value.value for name, value in event.metadata.items()}
    return numbers | {"found": [record.data["what"] for record in event.metadata["found"].records]}


def name_of(age: timedelta, digest: str = "1a2b3c4d") -> str:
    return f"{datetime.now(UTC) - age:%Y%m%dT%H%M%SZ}-{digest}"


def run_of(instance, batch_id: str) -> str:
    @dg.op
    def nothing() -> None: ...

    @dg.job(tags={"dagster/partition": batch_id})
    def batch_job() -> None:
        nothing()

    return batch_job.execute_in_process(instance=instance).run_id


def leave_behind(store: Store, instance) -> dict[str, str]:
    """A batch whose run died, a publication that never ended, a batch of long ago and one of today, both unknown."""
    batch = store.seal_batch(submit(store, 2), time_limit_s=0.001)
    store.records.write_many([store._videos._chunk("f" * 64, index, b"x") for index in range(3)])
    names = {"sealed": batch.id, "old": name_of(timedelta(days=8)), "young": name_of(timedelta(days=6))}
    instance.add_dynamic_partitions(request_batches.name, [*names.values(), "somebody's own"])
    return names | {"run of old": run_of(instance, names["old"]), "run of young": run_of(instance, names["young"])}


def test_unless_it_is_told_to_it_only_says_what_it_would_remove(url, store, instance):
    left = leave_behind(store, instance)
    before = dict(enumerate(store.records.names()))
    found = janitor(url, instance)
    assert found["dry_run"] == "true" and found["chunks/orphans"] == 3 and found["batches/forgotten"] == 1
    assert (found["chunks/marked"], found["chunks/removed"], found["batches/runs"]) == (0, 0, 1)
    assert found["found"] == [f"3 chunks of video {'f' * 64}", f"batch {left['old']}"]
    assert dict(enumerate(store.records.names())) == before
    assert len(instance.get_dynamic_partitions(request_batches.name)) == 4 and instance.has_run(left["run of old"])


def test_it_removes_what_nobody_needs_and_nothing_else(url, store, instance, monkeypatch):
    left = leave_behind(store, instance)
    monkeypatch.setattr(orphans, "ORPHAN_S", 0.0)
    monkeypatch.setattr(orphans, "DUE", every(Is(orphans.MARK, 0.0), Unwritten(orphans.MARK)))
    found = janitor(url, instance, dry_run=False)
    assert found["recovered/returned_batches"] == 1 and found["chunks/marked"] == 3
    assert len(store.waiting()) == 2
    assert (found["batches/forgotten"], found["batches/runs"]) == (1, 1)
    kept = {left["sealed"], left["young"], "somebody's own"}
    assert set(instance.get_dynamic_partitions(request_batches.name)) == kept
    assert not instance.has_run(left["run of old"]) and instance.has_run(left["run of young"])
    again = janitor(url, instance, dry_run=False)
    assert (again["chunks/removed"], again["batches/forgotten"]) == (3, 0)


def test_a_run_does_no_more_than_it_may(url, store, instance):
    names = [name_of(timedelta(days=9), f"{index:08x}") for index in range(5)]
    instance.add_dynamic_partitions(request_batches.name, names)
    store.records.write_many([store._videos._chunk("f" * 64, index, b"x") for index in range(600)])
    found = janitor(url, instance, dry_run=False, most_batches=2, most_chunks=10)
    assert found["batches/forgotten"] == 2 and found["chunks/cut_short"] == "true"
    assert found["chunks/orphans"] < 600
    assert len(instance.get_dynamic_partitions(request_batches.name)) == 3


def test_a_damaged_batch_stops_nothing(url, store, instance):
    name = name_of(timedelta(days=9))
    instance.add_dynamic_partitions(request_batches.name, [name])
    store.records.write(Write("batch", name, (Set("state", "?"),)))
    assert janitor(url, instance, dry_run=False)["batches/forgotten"] == 0


def test_its_schedule_waits_to_be_started_and_does_what_it_says():
    assert hourly_upkeep.default_status == dg.DefaultScheduleStatus.STOPPED
    (request,) = hourly_upkeep.evaluate_tick(dg.build_schedule_context()).run_requests
    assert request.run_config == {"ops": {"store_upkeep": {"config": {"dry_run": False}}}}
