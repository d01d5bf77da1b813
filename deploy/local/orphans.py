"""Runs whose processes died with everything that could have noticed: they would hold the device's pool for hours.

Dagster's default launcher cannot ask a run's process whether it lives; only the code server that started it can.
"""

from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil

UNDER_WAY = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]


def is_in_use(dagster_home: Path) -> bool:
    """Does any process but this one work on the Dagster instance in this folder?"""
    this = psutil.Process().pid
    return any(_home_of(process) == str(dagster_home) for process in psutil.process_iter() if process.pid != this)


def _home_of(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("DAGSTER_HOME")
    except psutil.Error:
        return None  # gone since, or somebody else's


def fail_orphans(instance: dg.DagsterInstance, dagster_home: Path, say: Callable[[str], None]) -> list[str]:
    """Fails every run that is under way on an instance which nobody works on, says so, and returns their ids.

    A run that carries dagster/max_retries is then started again by the daemon, as after any death of its process.
    """
    if is_in_use(dagster_home):
        return []
    runs = instance.get_runs(filters=dg.RunsFilter(statuses=UNDER_WAY))
    for run in runs:
        instance.report_run_failed(run, "its process was killed together with the code server that had started it")
        say(f"run {run.run_id[:8]} was killed the last time; it is marked as failed")
    return [run.run_id for run in runs]
