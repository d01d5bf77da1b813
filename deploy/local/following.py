"""Follows what Dagster does for one partition, step by step, and says when it stands still."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster._core.execution.stats import StepEventStatus

from deploy.local.processes import Child
from videogen.errors import VideogenError
from videogen_assets.checks import evaluations_of
from videogen_assets.partitions import PARTITION_TAG

START_SECONDS = 180.0
STANDSTILL_SECONDS = 900.0
POLL_SECONDS = 1.0
WILL_RETRY_TAG = "dagster/will_retry"
ENDS_OF_LANES = ({"model_weights", "promotion"}, {"request_batch", "batch_quality"})


class Standstill(VideogenError):
    """Nothing moved for too long."""


@dataclass(frozen=True, slots=True)
class StepEnd:
    """A step of a run that has ended."""

    run_id: str
    name: str
    seconds: float
    is_success: bool


def runs_of(instance: dg.DagsterInstance, partition: str) -> Sequence[dg.DagsterRun]:
    """The runs of a whole lane for a partition, oldest first; not those of some of its assets, started by hand."""
    runs = instance.get_runs(filters=dg.RunsFilter(tags={PARTITION_TAG: partition}))[::-1]
    return [run for run in runs if _is_whole(run)]


def _is_whole(run: dg.DagsterRun) -> bool:
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return not selected or any(ends <= selected for ends in ENDS_OF_LANES)


def have_ended(runs: Sequence[dg.DagsterRun]) -> bool:
    """Is there a run, none that goes on, and none that the daemon will start again because its process died?"""
    return bool(runs) and all(run.is_finished for run in runs) and runs[-1].tags.get(WILL_RETRY_TAG) != "true"


def ended_steps(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[StepEnd]:
    """The steps of `run` that have ended."""
    for step in instance.get_run_step_stats(run.run_id):
        if step.status in (StepEventStatus.SUCCESS, StepEventStatus.FAILURE) and step.end_time and step.start_time:
            is_success = step.status is StepEventStatus.SUCCESS
            yield StepEnd(run.run_id, step.step_key, step.end_time - step.start_time, is_success)


def current_step(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> str:
    """What the latest of the runs does now, in a word or two."""
    for run in runs[-1:]:
        steps = instance.get_run_step_stats(run.run_id)
        at_work = [step.step_key for step in steps if step.status is StepEventStatus.IN_PROGRESS]
        return ", ".join(at_work) or run.status.value.lower()
    return "no run yet"


def checks_of(instance: dg.DagsterInstance, partition: str) -> list[dg.AssetCheckEvaluation]:
    """What the checks of a partition's latest run found."""
    return [found for run in runs_of(instance, partition)[-1:] for found in evaluations_of(instance, run.run_id)]


def failure_of(instance: dg.DagsterInstance, partition: str) -> str:
    """The error that ended a partition's latest run; empty if none did."""
    for run in runs_of(instance, partition)[-1:]:
        for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
            if entry.dagster_event and entry.dagster_event.step_failure_data.error:
                error = entry.dagster_event.step_failure_data.error
                return f"{entry.dagster_event.step_key}: {(error.cause or error).message.strip()}"
    return ""


class Follower:
    """Watches an instance that `daemon` works on.

    `tell` is called once for each step that ends, `at_work` each second with what goes on.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        daemon: Child,
        tell: Callable[[StepEnd], None],
        at_work: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._instance, self._daemon, self._tell, self._at_work = instance, daemon, tell, at_work
        self._told = set[tuple[str, str]]()

    def wait(
        self,
        partition: str,
        known: Collection[str] = (),
        *,
        start_s: float = START_SECONDS,
        step_s: float = STANDSTILL_SECONDS,
    ) -> None:
        """Returns when the partition's runs, but for the `known` ones, have ended.

        Raises ProcessFailed if the daemon ends, Standstill if there is no run after `start_s` seconds or no step ends
        for `step_s` seconds.
        """
        start = moved = time.monotonic()
        while True:
            runs = [run for run in runs_of(self._instance, partition) if run.run_id not in known]
            now = time.monotonic()
            if self._tell_new(runs):
                moved = now
            if have_ended(runs):
                return
            self._daemon.check()
            self._at_work(f"{partition}: {current_step(self._instance, runs)}, {now - moved:.0f} s")
            if now - moved > (step_s if runs else start_s):
                raise Standstill(self._where_it_stands(partition, runs, now - start))
            time.sleep(POLL_SECONDS)

    def _tell_new(self, runs: Sequence[dg.DagsterRun]) -> bool:
        ended = [end for run in runs for end in ended_steps(self._instance, run)]
        new = [end for end in ended if (end.run_id, end.name) not in self._told]
        for end in new:
            self._told.add((end.run_id, end.name))
            self._tell(end)
        return bool(new)

    def _where_it_stands(self, partition: str, runs: Sequence[dg.DagsterRun], seconds: float) -> str:
        states = ", ".join(f"run {run.run_id[:8]} {run.status.value.lower()}" for run in runs) or "no run yet"
        return (
            f"{partition}: no end after {seconds:.0f} s ({states}). The daemon's log is {self._daemon.log}; `make dev` "
            "shows the runs"
        )
