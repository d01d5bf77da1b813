"""A batch answered: its videos made and published, watched while it runs."""

from contextlib import ExitStack
from typing import TYPE_CHECKING

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.media import MediaResource
from resources.service import ServiceResource
from resources.store import StoreResource
from videogen.errors import EngineUnavailable
from videogen.labels import model_of
from videogen.resolve import runnable_target
from videogen.store.records import BatchRecord, Json, RequestRecord, ServedEngine
from videogen.store.store import Store
from videogen_assets.batches.batch import request_batch
from videogen_assets.batches.on_device import OnDevice
from videogen_assets.jobs import BATCH_GROUP
from videogen_assets.partitions import request_batches
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.progress import DrainTicker
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import Cell, Metadata, chart, table

if TYPE_CHECKING:
    import numpy as np

    from videogen.drain import DrainReport
    from videogen.remote import RemoteService

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
    service: ServiceResource,
    store: StoreResource,
) -> dg.MaterializeResult:
    """The batch's videos: generated on the engine that passed its gates, published exactly once, kept by content.

    A request that cannot be answered fails alone and visibly; the others get their videos. A service that serves the
    version makes them, and this run needs no device; what it leaves, the run makes itself.
    """
    from videogen.drain import drain

    with final_refusals(), ExitStack() as held:
        batch = store.store().batch(context.partition_key)
        target, served = engine_for(store.store(), batch, device)
        facts: dict[str, Json] = {
            "engine": served.engine_key,
            "target": target,
            "precision": served.precision,
            "batch_size": served.batch_size,
            "gate_report": served.gate_report,
            "dagster_run": context.run.run_id,
        }
        here = OnDevice(batch, served, artifacts, engines, device, held, facts)
        remote = service.service()
        why_not = remote.why_not(batch.version_digest) if remote else None
        if remote is None or why_not:
            here.open()  # before anything is claimed: nothing is held while a device is waited for
        else:
            context.log.info("%s makes the videos", remote)
        report = drain(
            store.store(),
            batch.id,
            here,
            holder=context.run.run_id,
            provenance=facts,
            encode=media.encode,
            on_progress=DrainTicker(context),
            service=None if why_not else remote,
        )
    made_by = _made_by(remote, why_not, report)
    context.log.info("%d videos made by %s", len(report.published), made_by)
    requests = store.store().batch_requests(batch.id)
    return dg.MaterializeResult(
        metadata={
            "model": batch.label,
            "made by": made_by,
            "engine": _of(report, "target", "precision", "engine"),
            "device": here.where or _of(report, "device"),
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


def _made_by(remote: "RemoteService | None", why_not: str | None, report: "DrainReport") -> str:
    if remote is None:
        return "this run"
    if why_not:
        return f"this run, not {remote}: {why_not}"
    rest = len(report.published) - report.by_service
    if report.service_gone:
        return f"{remote} ({report.by_service}), then this run ({rest}): {report.service_gone}"
    return f"{remote} ({report.by_service}) and this run ({rest})" if rest else str(remote)


def _of(report: "DrainReport", *names: str) -> str:
    """What the videos say under these names of how they were made."""
    facts = [video.provenance for video in report.published.values()]
    return ", ".join(sorted({" ".join(str(made.get(name, "?")) for name in names) for made in facts}))


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
