"""Runs of a model version that failed: what they found stands on the version in MLflow, where people look for it."""

from collections.abc import Mapping, Sequence

import dagster as dg

from resources.registry import RegistryResource
from resources.store import StoreResource
from videogen.errors import InvalidRequest, RegistryUnavailable, StoreUnavailable, VersionNotFound
from videogen.labels import parse_label
from videogen.promotion import ASKED, refuse
from videogen_assets.checks import evaluations_of
from videogen_assets.jobs import ASKED_TAG
from videogen_assets.partitions import PARTITION_TAG
from videogen_assets.refusals import WOULD_DROP

ABOUT_THE_VERSION = frozenset({"ArtifactCorrupt", "ArtifactRefused", "EngineBuildFailed", WOULD_DROP})
"""Kinds of failures that are the version's own; a full disk or a busy device is not."""


def failed_checks(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What each blocking check of a run that did not pass found."""
    found = evaluations_of(instance, run_id)
    return [one.description or one.check_name for one in found if one.blocking and not one.passed]


def refusals(events: Sequence[dg.DagsterEvent]) -> list[str]:
    """What each step that refused said. Other failures, such as a server that was away, say nothing of the version."""
    told = [event.step_failure_data.user_failure_data for event in events]
    return [one.description for one in told if one and one.description and _kind(one.metadata) in ABOUT_THE_VERSION]


def _kind(metadata: Mapping[str, dg.MetadataValue]) -> object:
    entry = metadata.get("kind")
    return entry.value if entry is not None else None


def is_overtaken(instance: dg.DagsterInstance, run: dg.DagsterRun, asked: str | None) -> bool:
    """Does a later run of the version decide, or one that was asked for since this one was launched?"""
    latest = instance.get_runs(dg.RunsFilter(tags={PARTITION_TAG: run.tags[PARTITION_TAG]}), limit=1)
    launched_for = run.tags.get(ASKED_TAG, asked)
    return (bool(latest) and latest[0].run_id != run.run_id) or launched_for != asked


def partition_label(run: dg.DagsterRun) -> str | None:
    """The version that a run is about, None if it is about none."""
    label = run.tags.get(PARTITION_TAG, "")
    try:
        parse_label(label)
    except InvalidRequest:
        return None
    return label


@dg.run_failure_sensor(
    minimum_interval_seconds=10,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="When a run of a model version fails, MLflow is told that it was refused, and why.",
)
def refused_versions(
    context: dg.RunFailureSensorContext, registry: RegistryResource, store: StoreResource
) -> dg.SkipReason:
    """Looks at the version of one failed run."""
    label = partition_label(context.dagster_run)
    if label is None:
        return dg.SkipReason(f"run {context.dagster_run.run_id} was not about a model version")
    run_id = context.dagster_run.run_id
    found = failed_checks(context.instance, run_id) or refusals(context.get_step_failure_events())
    if not found:
        return dg.SkipReason(f"run {run_id} of {label} broke off and decided nothing")
    why = "; ".join(found)
    try:
        asked = registry.registry().version(*parse_label(label)).tags.get(ASKED)
        if is_overtaken(context.instance, context.dagster_run, asked):
            return dg.SkipReason(f"{label} has been asked for again since run {run_id}: that decides")
        told = refuse(store.store(), registry.registry(), label, why)
    except VersionNotFound as error:
        return dg.SkipReason(str(error))
    except (StoreUnavailable, RegistryUnavailable) as error:  # Dagster tells of a failed run once
        again = f"videogen models promote {label} asks again"
        return dg.SkipReason(f"{label} is refused, and MLflow was not told ({error}): {why}; {again}")
    return dg.SkipReason(f"{label} is refused: {why}" if told else f"{label} serves all the same; its run found: {why}")
