"""A run whose process was killed with everything around it ends visibly; one that somebody works on is left alone."""

import subprocess
import sys

import dagster as dg
import pytest

from deploy.local.orphans import fail_orphans


@pytest.fixture
def instance(tmp_path):
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


@pytest.fixture
def run(instance) -> dg.DagsterRun:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def idle() -> None:
        nothing()

    return instance.create_run_for_job(idle, status=dg.DagsterRunStatus.STARTED)


def test_a_run_that_nobody_works_on_fails_and_says_why(instance, run, tmp_path):
    said: list[str] = []
    assert fail_orphans(instance, tmp_path, said.append) == [run.run_id]
    assert said == [f"run {run.run_id[:8]} was killed the last time; it is marked as failed"]
    assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
    assert fail_orphans(instance, tmp_path, pytest.fail) == []


def test_while_a_process_works_on_the_instance_nothing_is_touched(instance, run, tmp_path):
    code = "print('up', flush=True); input()"
    worker = subprocess.Popen([sys.executable, "-c", code], env={"DAGSTER_HOME": str(tmp_path)},
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    try:
        assert worker.stdout is not None and worker.stdout.readline() == b"up\n"
        assert fail_orphans(instance, tmp_path, pytest.fail) == []
        assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.STARTED
    finally:
        worker.kill()
        worker.wait()
