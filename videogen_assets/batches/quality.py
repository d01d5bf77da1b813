"""What a batch's videos are like: cheap measures of each, and what is wrong with it, if anything."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import dagster as dg

from resources.media import MediaResource
from resources.store import StoreResource
from videogen.store.records import RequestRecord
from videogen.store.store import Store
from videogen_assets.batches.videos import generated_videos
from videogen_assets.jobs import BATCH_GROUP
from videogen_assets.partitions import request_batches
from videogen_assets.placement import OWNERS
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Cell, Metadata, table

if TYPE_CHECKING:
    import numpy as np

SHEET_CLIPS = 16


@dg.asset(
    deps=[generated_videos],
    group_name=BATCH_GROUP,
    partitions_def=request_batches,
    kinds={"numpy"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
)
def batch_quality(
    context: dg.AssetExecutionContext, media: MediaResource, store: StoreResource
) -> dg.MaterializeResult:
    """How much moves, how sharp, how steady each published video is, and which are black, frozen or flickering."""
    rows: list[dict[str, Cell]] = []
    shown: list[tuple[RequestRecord, np.ndarray]] = []
    with final_refusals():
        for record, frames in _clips(store.store(), context.partition_key):
            rows.append(_row(record, frames))
            if len(shown) < SHEET_CLIPS and record.accepted:
                shown.append((record, frames))
    wrong = [row for row in rows if row["anomalies"]]
    if wrong:
        context.log.warning("%d of %d videos look wrong", len(wrong), len(rows))
    return dg.MaterializeResult(
        metadata={
            "quality/videos": len(rows),
            "quality/anomalous": len(wrong),
            "quality/motion": _mean(rows, "motion"),
            "quality/sharpness": _mean(rows, "sharpness"),
            "quality/flicker": _mean(rows, "flicker"),
            "videos": table(rows),
            **_sheet(media, context.partition_key, shown),
        }
    )


def _clips(store: Store, batch_id: str) -> "Iterator[tuple[RequestRecord, np.ndarray]]":
    from videogen.media.mp4 import decode_mp4

    for record in store.batch_requests(batch_id):
        if record.video is not None:
            yield record, decode_mp4(store.read_video(record.video))


def _row(record: RequestRecord, frames: "np.ndarray") -> dict[str, Cell]:
    from videogen.quality.temporal import anomalies, measure_clip

    found = measure_clip(frames)
    return {
        "request": record.id,
        "prompt": record.accepted.request.prompt if record.accepted else "",
        "motion": found.motion,
        "sharpness": found.sharpness,
        "flicker": found.lum_flicker,
        "repeated": found.dup_frac,
        # A prompt may well ask for something that stands still.
        "anomalies": ", ".join(anomalies(found, moves=False)),
    }


def _mean(rows: list[dict[str, Cell]], name: str) -> float:
    values = [float(row[name] or 0) for row in rows]
    return sum(values) / len(values) if values else 0.0


def _sheet(media: MediaResource, batch_id: str, shown: "list[tuple[RequestRecord, np.ndarray]]") -> Metadata:
    """A contact sheet beside the other files for people."""
    from videogen.media.contact_sheet import contact_sheet

    if not shown:
        return {}
    prompts = [record.accepted.request.prompt for record, _ in shown if record.accepted]
    sheet = contact_sheet([frames for _, frames in shown], prompts)
    return {"contact_sheet": dg.MetadataValue.path(media.write(f"batch-{batch_id}.png", sheet))}
