"""How fast the version is on this device: T(B) by network, batch and stream, and beside the champion's."""

import statistics

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.store import StoreResource
from videogen.evaluation import Candidate, evaluation_prompts, questions
from videogen.requests import AcceptedRequest
from videogen.warming import Warmer, WarmUp
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.models.candidates import CHAMPION_GENERATION, begin_contest
from videogen_assets.models.engine import engine
from videogen_assets.models.warm_ups import WARM_UPS, as_metadata
from videogen_assets.opening import Opener
from videogen_assets.partitions import model_versions
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import Cell, Metadata, age, chart, table

SERVING_NETWORKS = ("sampler", "denoiser", "decoder")


class Measuring(dg.Config):
    """Whether what was measured before will do."""

    again: bool = False
    """Measure even what is kept: the machine may have been busy. `videogen models promote` asks for it."""


@dg.asset(
    deps=[engine],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"profile"},
    owners=OWNERS,
    code_version="1",
    **ON_DEVICE,
)
def warm_up(
    context: dg.AssetExecutionContext,
    config: Measuring,
    artifacts: ArtifactsResource,
    engines: EnginesResource,
    device: DeviceResource,
    store: StoreResource,
) -> dg.MaterializeResult:
    """The latency profile T(B) of every proven engine, its memory, and whole videos in turns with the champion's."""
    kept, label = artifacts.artifacts(), context.partition_key
    with final_refusals(), device.lease("exclusive", f"profile {label}") as lease:
        contest = begin_contest(context.instance, kept, store.store(), label)
        attempt = context.run.run_id if config.again else ""
        warmer = Warmer(kept, lease, engines.thread_count(), Opener(kept, engines).candidate, ask, attempt)
        found = {one.target: warmer.ensure(one, contest.rival_on(one.target)) for one in contest.own}
    metadata: Metadata = {
        WARM_UPS: as_metadata(found),
        CHAMPION_GENERATION: str(contest.generation),
        "compared_with": contest.rival.model.label if contest.rival else "nothing: no other version serves",
        "device": str(lease.device),
    }
    for target, measured in reversed(found.items()):
        metadata |= {f"profile/{target}": _points(measured), f"T(B)/{target}": _curve(measured), **_numbers(measured)}
    return dg.MaterializeResult(metadata=metadata)


def ask(candidate: Candidate, count: int) -> list[AcceptedRequest]:
    """The first evaluation prompts, as requests to this version."""
    model = candidate.model
    return questions(evaluation_prompts(count), model.spec, model.version_digest, model.label, model.vocabulary)


def _numbers(measured: WarmUp) -> Metadata:
    """Of one target; the first one's are those that are plotted over versions."""
    profile, timings = measured.profile, measured.timings
    batch, streams = profile.best()
    numbers: Metadata = {
        "perf/best_batch": batch,
        "perf/best_streams": streams,
        "perf/serving_batch": measured.batch_size,
        "perf/ms_per_video": 1000 * profile.seconds_per_video(batch, streams),
        "perf/load_s": profile.load_seconds,
        "memory/load_mib": profile.memory["load"] / 2**20,
        "memory/peak_mib": profile.memory["peak"] / 2**20,
        "state": "measured" if measured.is_new else f"reused, measured {age(measured.folder)} ago",
        "exclusive": "yes" if profile.exclusive else "no: other work ran beside it, so nothing is scheduled by it",
    }
    medians = {count: 1000 * statistics.median(times) for count, times in timings.candidate.items()}
    return numbers | {"perf/one_request_ms": medians[1], "perf/served_ms_per_video": 1000 * measured.seconds_per_video}


def _points(measured: WarmUp) -> dg.TableMetadataValue:
    rows: list[dict[str, Cell]] = [
        {"network": p.network, "batch": p.batch, "streams": p.streams, "median ms": 1000 * p.median,
         "p90 ms": 1000 * p.p90, "rows/s": p.rows_per_second, "calls": p.calls}
        for p in measured.profile.points
    ]  # fmt: skip
    return table(rows)


def _curve(measured: WarmUp) -> dg.MarkdownMetadataValue:
    from videogen.media.charts import Series, line_chart

    points = measured.profile.points
    lines = sorted({(p.network, p.streams) for p in points if p.network in SERVING_NETWORKS})
    series = [
        Series(
            f"{network} ×{streams}",
            [(p.batch, 1000 * p.median) for p in points if (p.network, p.streams) == (network, streams)],
        )
        for network, streams in lines
    ]
    return chart(line_chart("T(B): time of one call", series, "batch", "ms"), "T(B) by network and streams")
