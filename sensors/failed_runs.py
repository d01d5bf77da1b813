"""Runs that ended without answering their batch: what they held goes back at once, not when its time is up.

Dagster tells of the end of a run once. If the store is away just then, what the run held goes back on the first look
at all open batches after that, see `settle_missed`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from resources.store import StoreResource
from videogen.errors import RecordNotFound, StoreUnavailable
from videogen_assets.partitions import PARTITION_TAG

if TYPE_CHECKING:
    from videogen.store.records import BatchRecord
    from videogen.store.store import Store

ATTEMPT_TAG = "videogen/attempt"
"""On a run: which sealing of its batch it was launched for."""
_ENDED = {dg.DagsterRunStatus.FAILURE: "failed", dg.DagsterRunStatus.CANCELED: "was cancelled"}


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that failed or was cancelled. `attempt` is that of the batch when it was launched, if a sensor did it."""

    run_id: str
    batch_id: str | None
    attempt: int | None
    reason: str


@dataclass(frozen=True, slots=True)
class GiveBack:
    """The batch that goes back, if it is still this holder's or nobody's yet."""

    batch_id: str
    holder: str
    error: str


def plan(run: EndedRun, batch: "BatchRecord | None") -> GiveBack | str:
    """What goes back, or why nothing does."""
    if run.batch_id is None:
        return f"run {run.run_id} was not about a batch"
    if batch is None:
        return f"run {run.run_id} was about {run.batch_id}, which is no batch of the store"
    if batch.state not in ("sealed", "running"):
        return f"batch {batch.id} is {batch.state}: nothing to give back"
    if run.attempt is not None and run.attempt < batch.attempt:
        return f"batch {batch.id} was sealed again since run {run.run_id}: attempt {batch.attempt} has a run of its own"
    holder = batch.holder or run.run_id
    if batch.state == "running" and run.run_id not in holder:
        return f"batch {batch.id} is drained by {batch.holder}, not by run {run.run_id}"
    return GiveBack(batch.id, holder, f"run {run.run_id} {run.reason}")


def ended_run(run: dg.DagsterRun, reason: str) -> EndedRun:
    """What the planner needs to know of a run."""
    key, attempt = run.tags.get(PARTITION_TAG), run.tags.get(ATTEMPT_TAG)
    is_batch = key is not None and "@" not in key  # that would be a model version
    return EndedRun(
        run.run_id, key if is_batch else None, int(attempt) if attempt and attempt.isdecimal() else None, reason
    )


def settle(store: "Store", run: EndedRun) -> str:
    """Gives back what the run held, and says what was done."""
    planned = plan(run, _find(store, run.batch_id))
    if isinstance(planned, str):
        return planned
    batch = store.give_back(planned.batch_id, planned.error, planned.holder)
    return f"batch {batch.id} ({len(batch.request_ids)} requests) is {batch.state}: {planned.error}"


def _find(store: "Store", batch_id: str | None) -> "BatchRecord | None":
    if batch_id is None:
        return None
    try:
        return store.batch(batch_id)
    except RecordNotFound:
        return None


def settle_missed(store: "Store", instance: dg.DagsterInstance) -> list[str]:
    """Gives back what the last run of each open batch held, if it has ended without answering it; the batches' ids."""
    returned = []
    for batch in [batch for state in ("sealed", "running") for batch in store.batches(state, limit=10_000)]:
        for run in instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: batch.id}), limit=1):
            planned = _plan_missed(ended_run(run, _ENDED.get(run.status, "")), batch)
            if isinstance(planned, GiveBack):
                store.give_back(planned.batch_id, planned.error, planned.holder)
                returned.append(batch.id)
    return returned


def _plan_missed(run: EndedRun, batch: "BatchRecord") -> GiveBack | str:
    if not run.reason:
        return f"run {run.run_id} has not ended, or answered its batch"
    if batch.state == "sealed" and run.attempt != batch.attempt:
        return f"batch {batch.id} may still get the run that its attempt {batch.attempt} was sealed for"
    return plan(run, batch)


def _told(store: StoreResource, run: dg.DagsterRun, status: dg.DagsterRunStatus) -> dg.SkipReason:
    try:
        return dg.SkipReason(settle(store.store(), ended_run(run, _ENDED[status])))
    except StoreUnavailable as error:
        return dg.SkipReason(f"The store does not answer: {error}. When it does, what run {run.run_id} held goes back.")


@dg.run_failure_sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When a run of a batch fails, its requests wait again at once.",
)
def failed_batch_runs(context: dg.RunFailureSensorContext, store: StoreResource) -> dg.SkipReason:
    """Looks at the batch of one failed run."""
    return _told(store, context.dagster_run, dg.DagsterRunStatus.FAILURE)


@dg.run_status_sensor(
    run_status=dg.DagsterRunStatus.CANCELED,
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When a run of a batch is cancelled, its requests wait again at once.",
)
def cancelled_batch_runs(context: dg.RunStatusSensorContext, store: StoreResource) -> dg.SkipReason:
    """Looks at the batch of one cancelled run."""
    return _told(store, context.dagster_run, dg.DagsterRunStatus.CANCELED)
