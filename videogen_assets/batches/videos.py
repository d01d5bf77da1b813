"""A batch answered: its videos made and published, watched while it runs."""

from typing import TYPE_CHECKING

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.media import MediaResource
from resources.store import StoreResource
from videogen.errors import EngineUnavailable
from videogen.labels import model_of
from videogen.resolve import WEIGHTS, runnable_target
from videogen.store.records import BatchRecord, RequestRecord, ServedEngine
from videogen.store.store import Store
from videogen_assets.batches.batch import request_batch
from videogen_assets.jobs import BATCH_GROUP
from videogen_assets.opening import Opener
from videogen_assets.partitions import request_batches
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.progress import DrainTicker
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import Cell, Metadata, chart, table

if TYPE_CHECKING:
    import numpy as np

    from videogen.drain import DrainReport

SHOWN_VIDEOS, COLUMNS = 12, 4


@dg.asset(
    deps=[request_batch],
    group_name=BATCH_GROUP,
    partitions_def=request_batches,
    kinds={"video", "h264"},
    owners=OWNERS,
    code_version="1",
    **ON_DEVICE,
)
def generated_videos(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactsResource,
    engines: EnginesResource,
    device: DeviceResource,
    media: MediaResource,
    store: StoreResource,
) -> dg.MaterializeResult:
    """The batch's videos: generated on the engine that passed its gates, published exactly once, kept by content.

    A request that cannot be answered fails alone and visibly; the others get their videos.
    """
    from videogen.drain import drain

    with final_refusals():
        batch = store.store().batch(context.partition_key)
        target, served = engine_for(store.store(), batch, device)
        folder = artifacts.artifacts().get(WEIGHTS, batch.version_digest)
        with device.lease("shared", f"answer batch {batch.id}") as lease:
            opener = Opener(artifacts.artifacts(), engines)
            generator = opener.generator(folder, served.engine_key, served.batch_size)
            provenance = {
                "engine": served.engine_key,
                "target": target,
                "precision": served.precision,
                "batch_size": served.batch_size,
                "gate_report": served.gate_report,
                "device": lease.device.name,
                "dagster_run": context.run.run_id,
            }
            report = drain(
                store.store(),
                batch.id,
                generator,
                holder=context.run.run_id,
                provenance=provenance,
                encode=media.encode,
                on_progress=DrainTicker(context),
            )
    requests = store.store().batch_requests(batch.id)
    return dg.MaterializeResult(
        metadata={
            "model": batch.label,
            "engine": f"{target} {served.precision} {served.engine_key}",
            "device": str(lease.device),
            **_numbers(report),
            "stages": _stages(report),
            "videos": table([_row(request) for request in requests]),
            **_moving(media, store.store(), requests, batch.id),
        }
    )


def engine_for(store: Store, batch: BatchRecord, device: DeviceResource) -> tuple[str, ServedEngine]:
    """The engine on which the batch's version passed its gates. Raises EngineUnavailable."""
    model = model_of(batch.label)
    moves = [move.champion for move in store.champion_history(model)]
    served = [champion for champion in moves if champion.version_digest == batch.version_digest]
    if not served:
        raise EngineUnavailable(f"{batch.label} has never passed its gates, so no engine of it may answer requests")
    target = runnable_target(served[-1].targets, device.device(), batch.label)
    return target, served[-1].targets[target]


def _numbers(report: "DrainReport") -> Metadata:
    per_minute = 60 * len(report.published) / report.seconds if report.seconds else 0.0
    return {
        "batch/published": len(report.published),
        "batch/failed": len(report.failed),
        "batch/lost": report.lost,
        "batch/unwanted": report.unwanted,
        "perf/seconds": report.seconds,
        "perf/videos_per_minute": per_minute,
        "perf/overhead_share": report.overhead_share,
        "failures": table([{"request": request, "why": why} for request, why in report.failed.items()]),
    }


def _stages(report: "DrainReport") -> dg.MarkdownMetadataValue:
    from videogen.media.charts import stacked_bar

    parts = [(name, seconds) for name, seconds in report.stages.items() if name != "generate"]
    return chart(stacked_bar("Where the time went, summed over threads", parts, "s"), "seconds by stage")


def _row(record: RequestRecord) -> dict[str, Cell]:
    request = record.accepted.request if record.accepted else None
    return {
        "request": record.id,
        "prompt": request.prompt if request else "(the record is damaged)",
        "seed": request.seed if request else None,
        "state": record.state,
        "video": record.video,
        "error": record.error,
    }


def _moving(media: MediaResource, store: Store, requests: list[RequestRecord], batch_id: str) -> Metadata:
    """A wall of moving previews and a notebook that plays the MP4s; nothing if no video came of it."""
    from videogen.media.contact_sheet import wall
    from videogen.media.mp4 import decode_mp4

    shown: list[tuple[str, bytes]] = []
    fps = 8
    for record in requests:
        if record.video and record.accepted and len(shown) < SHOWN_VIDEOS:
            shown.append((record.accepted.request.prompt, store.read_video(record.video)))
            fps = record.accepted.request.fps or fps
    if not shown:
        return {}
    clips: list[np.ndarray] = [decode_mp4(mp4) for _, mp4 in shown]
    alike = [clip for clip in clips if clip.shape == clips[0].shape]
    return {
        "preview": media.preview(wall(alike, COLUMNS), fps, "; ".join(prompt for prompt, _ in shown[: len(alike)])),
        "player": media.notebook(f"batch-{batch_id}", f"Batch {batch_id}", shown),
    }
