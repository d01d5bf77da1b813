"""What a failed or cancelled run held goes back; real runs of a real instance, a real store."""

import dagster as dg
import pytest

from resources.store import StoreResource
from sensors.failed_runs import EndedRun, GiveBack, cancelled_batch_runs, ended_run, failed_batch_runs, plan, settle
from tests.sensors.making import DyingRecords, Killed, submit
from videogen.store.records import BatchRecord
from videogen.store.store import Store


def _batch(state="sealed", attempt=1, holder=None):
    return BatchRecord("20261123T081500Z-1a2b3c4d", state, ("r1",), "d1", "tiny@1", attempt, 0.0, 60.0, holder)


def _run(batch_id="20261123T081500Z-1a2b3c4d", attempt=1):
    return EndedRun("run-1", batch_id, attempt, "failed")


@pytest.mark.parametrize(
    ("run", "batch"),
    [
        (_run(), _batch()),
        (_run(), _batch("running", holder="run-1")),
        (_run(attempt=None), _batch("running", attempt=3, holder="run-1")),
    ],
    ids=["it never started", "it drained", "it was launched by hand"],
)
def test_goes_back(run, batch):
    assert plan(run, batch) == GiveBack(batch.id, "run-1", "run run-1 failed")


@pytest.mark.parametrize(
    ("run", "batch", "reason"),
    [
        (_run(batch_id=None), None, "run run-1 was not about a batch"),
        (_run(), None, "which is no batch of the store"),
        (_run(), _batch("finished"), "is finished: nothing to give back"),
        (_run(), _batch("returned"), "is returned: nothing to give back"),
        (_run(), _batch("running", holder="run-2"), "is drained by run-2, not by run run-1"),
        (_run(attempt=1), _batch(attempt=2), "attempt 2 has a run of its own"),
    ],
)
def test_stays(run, batch, reason):
    assert reason in plan(run, batch)


def test_a_run_of_a_model_version_is_about_no_batch():
    run = dg.DagsterRun("job", tags={"dagster/partition": "videogen-tiny@3"})
    assert ended_run(run, "failed").batch_id is None
    run = dg.DagsterRun("job", tags={"dagster/partition": "20261123T081500Z-1a2b3c4d", "videogen/attempt": "2"})
    assert ended_run(run, "failed") == EndedRun(run.run_id, "20261123T081500Z-1a2b3c4d", 2, "failed")


@pytest.fixture
def url(tmp_path):
    return f"embedded:{tmp_path / 'store'}"


@pytest.fixture
def store(url):
    with Store.open(url) as store:
        yield store


def _failed_run(instance, batch_id) -> dg.ExecuteInProcessResult:
    @dg.op
    def breaks() -> None:
        raise RuntimeError("the device is gone")

    @dg.job(tags={"dagster/partition": batch_id, "videogen/attempt": "1"})
    def batch_job() -> None:
        breaks()

    return batch_job.execute_in_process(instance=instance, raise_on_error=False)


def test_requests_of_a_failed_run_wait_again_and_its_leases_end(url, store):
    ids = submit(store, 2)
    batch = store.seal_batch(ids, time_limit_s=600)
    with dg.DagsterInstance.ephemeral() as instance:
        result = _failed_run(instance, batch.id)
        assert len(store.claim(batch.id, holder=result.run_id, lease_s=600)) == 2
        base = dg.build_run_status_sensor_context(
            "failed_batch_runs",
            dagster_event=result.get_run_failure_event(),
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            resources={"store": StoreResource(url=url)},
        )
        with base as context:
            said = failed_batch_runs(context.for_run_failure())
    assert f"batch {batch.id} (2 requests) is returned: run {result.run_id} failed" in said.skip_message
    assert {record.id for record in store.waiting()} == set(ids)
    assert len(store.claim(store.seal_batch(ids, 600).id, holder="another", lease_s=60)) >= 1


def test_a_cancelled_run_counts_too():
    assert cancelled_batch_runs.default_status == failed_batch_runs.default_status == dg.DefaultSensorStatus.RUNNING


def test_a_second_look_at_the_same_run_changes_nothing(store):
    batch = store.seal_batch(submit(store, 2), time_limit_s=600)
    run = EndedRun("run-1", batch.id, 1, "failed")
    assert "is returned" in settle(store, run)
    assert "nothing to give back" in settle(store, run)
    assert store.seal_batch(batch.request_ids, 600).attempt == 2
    assert "attempt 2 has a run of its own" in settle(store, run)


@pytest.mark.parametrize("after", [False, True], ids=["before the write", "after the write"])
def test_killed_at_any_write_the_requests_still_come_back(tmp_path, after):
    died, die_at = True, 0
    while died:
        die_at += 1
        folder = tmp_path / f"{die_at}"
        with Store.open(f"embedded:{folder}") as store:
            batch = store.seal_batch(submit(store, 2), time_limit_s=600)
            store.claim(batch.id, holder="run-1", lease_s=600)
        run = EndedRun("run-1", batch.id, 1, "failed")
        dying = Store(DyingRecords(folder, die_at, after))
        try:
            settle(dying, run)
            died = False
        except Killed:
            pass
        dying.close()
        with Store.open(f"embedded:{folder}") as store:
            settle(store, run)  # the sensor's next look
            store.recover()  # and the request sensor's
            assert {record.id for record in store.waiting()} == set(batch.request_ids), f"killed at write {die_at}"
            assert store.batch(batch.id).state == "returned"
    assert die_at > 4
