"""The janitor: puts right what crashes left in the store, and takes away what nobody needs any more."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.store import StoreResource
from videogen.errors import RecordDamaged, RecordNotFound
from videogen_assets.partitions import PARTITION_TAG, request_batches
from videogen_assets.placement import OWNERS
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Cell, Metadata, table

if TYPE_CHECKING:
    from videogen.store.orphans import Swept
    from videogen.store.store import Store

UPKEEP_GROUP = "upkeep"
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class Upkeep(dg.Config):
    """What the janitor may do, and how much at a time."""

    dry_run: bool = Field(default=True, description="Only say what would be removed.")
    most_chunks: int = Field(default=10_000, ge=1, description="Orphaned chunks of one run.")
    most_batches: int = Field(default=200, ge=1, description="Forgotten batches of one run, with their Dagster runs.")


@dg.asset(
    group_name=UPKEEP_GROUP,
    kinds={"janitor"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
)
def store_upkeep(context: dg.AssetExecutionContext, config: Upkeep, store: StoreResource) -> dg.MaterializeResult:
    """Work of dead processes comes back; what expired, chunks without a video and forgotten batches go.

    Removes nothing unless it is told to (`dry_run: false`, as its schedule does). A forgotten batch is one that the
    store no longer knows: its partition goes, and its ended runs with their events.
    """
    from videogen.store.orphans import sweep

    with final_refusals():
        opened = store.store()
        shown: Metadata = {"dry_run": str(config.dry_run).lower()}
        if not config.dry_run:
            shown |= _recover(opened)
        swept = sweep(opened.records, config.most_chunks, config.dry_run)
        forgotten = _forgotten(opened, context.instance)[: config.most_batches]
    runs = _ended_runs(context.instance, forgotten)
    if not config.dry_run:
        for run_id in runs:
            context.instance.delete_run(run_id)
        for name in forgotten:
            context.instance.delete_dynamic_partition(str(request_batches.name), name)
    return dg.MaterializeResult(metadata=shown | _numbers(swept, forgotten, runs) | {"found": _found(swept, forgotten)})


def _recover(store: "Store") -> Metadata:
    """Also purges what has expired, where the backend doesn't by itself."""
    done = store.recover()
    return {
        "recovered/returned_batches": len(done.returned_batches),
        "recovered/ended_requests": len(done.ended_requests),
        "recovered/requeued_requests": len(done.requeued_requests),
    }


def _forgotten(store: "Store", instance: dg.DagsterInstance) -> list[str]:
    """Partitions of batches that the store no longer knows, oldest first.

    One that is younger than what the store keeps is left alone: then it is the store that lost something.
    """
    latest = datetime.now(UTC) - timedelta(seconds=store.limits.keep_requests)
    names = sorted(instance.get_dynamic_partitions(str(request_batches.name)))
    return [name for name in names if _sealed_before(name, latest) and not _is_known(store, name)]


def _sealed_before(batch_id: str, latest: datetime) -> bool:
    try:
        return datetime.strptime(batch_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) < latest
    except ValueError:  # somebody's own partition
        return False


def _is_known(store: "Store", batch_id: str) -> bool:
    try:
        store.batch(batch_id)
    except RecordNotFound:
        return False
    except RecordDamaged:  # recovery ends it
        return True
    return True


def _ended_runs(instance: dg.DagsterInstance, batch_ids: Iterable[str]) -> list[str]:
    filters = (dg.RunsFilter(tags={PARTITION_TAG: batch_id}, statuses=_ENDED) for batch_id in batch_ids)
    return [run.run_id for one in filters for run in instance.get_runs(one)]


def _numbers(swept: "Swept", forgotten: list[str], runs: list[str]) -> Metadata:
    return {
        "chunks/looked_at": swept.looked,
        "chunks/orphans": sum(swept.orphans.values()),
        "chunks/marked": swept.marked,
        "chunks/removed": swept.removed,
        "chunks/cut_short": str(swept.is_cut).lower(),
        "batches/forgotten": len(forgotten),
        "batches/runs": len(runs),
    }


def _found(swept: "Swept", forgotten: list[str]) -> dg.TableMetadataValue:
    rows: list[dict[str, Cell]] = [
        {"what": f"{count} chunks of video {digest}", "why": why} for (digest, why), count in swept.orphans.items()
    ]
    return table(rows + [{"what": f"batch {name}", "why": "the store no longer knows it"} for name in forgotten])


upkeep = dg.define_asset_job(
    "upkeep",
    selection=dg.AssetSelection.groups(UPKEEP_GROUP),
    description="Keeps the store and Dagster free of what crashes and time leave behind.",
)

# Stopped until somebody wants it: the request sensor recovers what was lost and frees what has expired by itself, and
# this one also removes Dagster's memory of batches that the store has forgotten.
hourly_upkeep = dg.ScheduleDefinition(
    name="hourly_upkeep",
    job=upkeep,
    cron_schedule="17 * * * *",
    run_config={"ops": {"store_upkeep": {"config": {"dry_run": False}}}},
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Runs the janitor, which removes what it finds.",
)
