import os
import sys

import dagster as dg
import pytest

from deploy.local.following import Follower, Standstill, checks_of, ended_steps, failure_of, have_ended, runs_of
from deploy.local.processes import ProcessFailed, running

PARTITION = "videogen-tiny@3"
VERSIONS = dg.DynamicPartitionsDefinition(name="model_version")


@dg.asset(partitions_def=VERSIONS)
def evaluation():
    return None


@dg.asset_check(asset=evaluation, blocking=True)
def agreement():
    return dg.AssetCheckResult(passed=False, description="0.02 of 64 clips show what was asked; at least 0.6 wanted")


@dg.asset(partitions_def=VERSIONS, deps=[evaluation])
def promotion():
    return None


@dg.asset(partitions_def=VERSIONS)
def broken():
    raise dg.Failure("the disk is full")


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        instance.add_dynamic_partitions("model_version", [PARTITION])
        yield instance


@pytest.fixture
def daemon(tmp_path):
    with running(
        "daemon", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ, tmp_path / "log"
    ) as child:
        yield child


def materialize(instance, *assets):
    return dg.materialize(assets, instance=instance, partition_key=PARTITION, raise_on_error=False)


def test_a_refused_partition_says_which_check_refused_it_and_why(instance):
    materialize(instance, evaluation, agreement, promotion)
    (check,) = checks_of(instance, PARTITION)
    assert (check.check_name, check.passed) == ("agreement", False)
    assert "0.02 of 64 clips" in check.description
    (run,) = runs_of(instance, PARTITION)
    assert "promotion" not in {end.name for end in ended_steps(instance, run)}


def test_only_the_latest_run_of_that_partition_speaks(instance):
    materialize(instance, evaluation, agreement, promotion)
    materialize(instance, broken)
    assert len(runs_of(instance, PARTITION)) == 2
    assert checks_of(instance, PARTITION) == []
    assert "the disk is full" in failure_of(instance, PARTITION)
    assert not have_ended(runs_of(instance, "videogen-tiny@4"))


def test_some_assets_by_hand_are_no_run_of_the_lane_and_all_of_them_are(instance):
    def run(*selected):
        keys = frozenset(dg.AssetKey(name) for name in selected) or None
        job = dg.DagsterRun("__ASSET_JOB", tags={"dagster/partition": PARTITION}, asset_selection=keys)
        instance.add_run(job)
        return job.run_id

    run("quality_report"), run("promotion")
    whole = [run(), run("model_weights", "engine", "promotion"), run("request_batch", "batch_quality")]
    assert [found.run_id for found in runs_of(instance, PARTITION)] == whole


def test_waiting_ends_with_the_runs_and_tells_each_step_once(instance, daemon):
    materialize(instance, evaluation, promotion)
    told = []
    follower = Follower(instance, daemon, told.append)
    follower.wait(PARTITION)
    follower.wait(PARTITION)
    assert sorted(end.name for end in told) == ["evaluation", "promotion"]
    assert all(end.is_success and end.seconds >= 0 for end in told)


def test_a_sensor_that_starts_nothing_is_a_standstill_with_the_log_to_read(instance, daemon):
    with pytest.raises(Standstill, match=rf"{PARTITION}: no end .*no run yet.*{daemon.log}"):
        Follower(instance, daemon, print).wait(PARTITION, start_s=0.1)


def test_runs_from_before_are_not_waited_for(instance, daemon):
    materialize(instance, evaluation)
    before = [run.run_id for run in runs_of(instance, PARTITION)]
    with pytest.raises(Standstill, match="no run yet"):
        Follower(instance, daemon, print).wait(PARTITION, before, start_s=0.1)
    materialize(instance, promotion)
    Follower(instance, daemon, print).wait(PARTITION, before)


def test_a_run_whose_process_died_goes_on_in_its_retry(instance):
    materialize(instance, evaluation)
    (run,) = runs_of(instance, PARTITION)
    assert have_ended([run])
    instance.add_run_tags(run.run_id, {"dagster/will_retry": "true"})
    assert not have_ended(runs_of(instance, PARTITION))
    materialize(instance, evaluation)
    assert have_ended(runs_of(instance, PARTITION))


def test_a_daemon_that_ends_is_not_waited_for(instance, tmp_path):
    with running("daemon", [sys.executable, "-c", "print('no space')"], os.environ, tmp_path / "d.log") as child:
        child.process.wait(10)
        with pytest.raises(ProcessFailed, match="no space"):
            Follower(instance, child, print).wait(PARTITION)
