"""The version's answers to held-out prompts: what everything that follows is judged on."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.media import MediaResource
from resources.store import StoreResource
from videogen.evaluation import DEFAULT_COUNT, Candidate, Evaluation, ensure_evaluation, evaluation_prompts, videos
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.models.candidates import go_on_with_contest
from videogen_assets.models.warm_up import warm_up
from videogen_assets.opening import Opener
from videogen_assets.partitions import model_versions
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.progress import Ticker
from videogen_assets.refusals import final_refusals
from videogen_assets.shown import Cell, Metadata, age, table

if TYPE_CHECKING:
    from videogen.quality.agreement import Agreement

EVALUATIONS, RIVAL = "evaluations", "champion"
SHOWN_CLIPS, COLUMNS = 24, 6


class Questions(dg.Config):
    """How much is asked."""

    count: int = DEFAULT_COUNT
    """Prompts; the champion is asked the same ones."""


@dg.asset(
    deps=[warm_up],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"video", "h264"},
    owners=OWNERS,
    code_version="1",
    **ON_DEVICE,
)
def evaluation_videos(
    context: dg.AssetExecutionContext,
    config: Questions,
    artifacts: ArtifactsResource,
    engines: EnginesResource,
    device: DeviceResource,
    store: StoreResource,
    media: MediaResource,
) -> dg.MaterializeResult:
    """Videos for held-out prompts with fixed seeds, judged by the pixel oracle; the champion's too, where missing."""
    label, kept = context.partition_key, artifacts.artifacts()
    opener, prompts = Opener(kept, engines), evaluation_prompts(config.count)

    def evaluate(candidate: Candidate) -> tuple[Path, Evaluation, bool]:
        ticker = Ticker(context.log, f"{candidate.model.label} on {candidate.target}", config.count)
        return ensure_evaluation(kept, candidate, prompts, partial(opener.candidate, candidate), ticker)

    with final_refusals(), device.lease("shared", f"evaluate {label}"):
        contest = go_on_with_contest(context.instance, kept, store.store(), label)
        found = {candidate.target: evaluate(candidate) for candidate in contest.own}
        keys = {target: folder.name for target, (folder, _, _) in found.items()}
        if contest.rival is not None:
            keys[RIVAL] = evaluate(contest.rival)[0].name
    metadata: Metadata = {EVALUATIONS: dg.MetadataValue.json(keys)}
    for candidate in contest.own[:1]:
        metadata |= _shown(media, candidate, *found[candidate.target])
    return dg.MaterializeResult(metadata=metadata)


def _shown(media: MediaResource, candidate: Candidate, folder: Path, found: Evaluation, is_new: bool) -> Metadata:
    agreement, label = found.agreement(), candidate.model.label
    failed = [answer for answer in found.answers if answer.error]
    numbers: Metadata = {
        "evaluation/prompts": len(found.answers),
        "evaluation/failed": len(failed),
        "evaluation/seconds": found.seconds,
        "state": "generated" if is_new else f"reused, generated {age(folder)} ago",
    }
    numbers |= {f"agreement/{name}": share.value for name, share in agreement.shares().items()}
    numbers["clips"] = table(_rows(found, agreement))
    shown = [answer for answer in found.answers if answer.video][:SHOWN_CLIPS]
    if not shown:
        return numbers
    from videogen.media.contact_sheet import wall

    clips, names = videos(folder, shown), [answer.prompt for answer in shown]
    mp4s = [(folder / str(answer.video)).read_bytes() for answer in shown]
    return numbers | {
        "preview": media.preview(wall(clips, COLUMNS), candidate.model.spec.fps, f"the first {len(clips)} prompts"),
        "player": media.notebook(f"evaluation-{label}", label, list(zip(names, mp4s, strict=True))),
    }


def _rows(found: Evaluation, agreement: "Agreement") -> list[dict[str, Cell]]:
    rows: list[dict[str, Cell]] = []
    for answer, judged in zip(found.answers, agreement.rows(), strict=True):
        rows.append({"prompt": answer.prompt, "seed": answer.seed, **judged, "ms": 1000 * answer.seconds})
    return rows
