"""A sealed batch: which requests a run answers together."""

import dagster as dg

from resources.store import StoreResource
from videogen.store.records import RequestRecord
from videogen_assets.jobs import BATCH_GROUP
from videogen_assets.partitions import request_batches
from videogen_assets.placement import OWNERS
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Cell, table


@dg.asset(
    group_name=BATCH_GROUP,
    partitions_def=request_batches,
    kinds={"queue"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
)
def request_batch(context: dg.AssetExecutionContext, store: StoreResource) -> dg.MaterializeResult:
    """The requests that the sensor sealed into this batch. They are the store's; this is what they looked like."""
    with final_refusals():
        batch = store.store().batch(context.partition_key)
        requests = store.store().batch_requests(batch.id)
    waited = [batch.created_at - request.submitted_at for request in requests]
    return dg.MaterializeResult(
        metadata={
            "model": batch.label,
            "version_digest": batch.version_digest,
            "state": batch.state,
            "batch/requests": len(requests),
            "batch/attempt": batch.attempt,
            "batch/longest_wait_s": max(waited, default=0.0),
            "requests": table([_row(request) for request in requests]),
        },
        data_version=dg.DataVersion(batch.id),
    )


def _row(record: RequestRecord) -> dict[str, Cell]:
    request = record.accepted.request if record.accepted else None
    return {
        "request": record.id,
        "prompt": request.prompt if request else "(the record is damaged)",
        "seed": request.seed if request else None,
        "steps": request.num_inference_steps if request else None,
        "priority": record.priority,
        "tenant": request.tenant if request else None,
        "source": record.source,
        "state": record.state,
    }
