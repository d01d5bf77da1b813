"""The version that passed every gate becomes champion: what requests get from then on."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from resources.artifacts import ArtifactsResource
from resources.registry import RegistryResource
from resources.store import StoreResource
from videogen.promotion import promote, roll_back
from videogen.store.records import Champion, ServedEngine
from videogen.warming import WarmUp
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.labels import parse_label
from videogen_assets.models.candidates import AGAIN, Contest, go_on_with_contest
from videogen_assets.models.quality import judgements_of, quality_report
from videogen_assets.models.warm_ups import warm_ups_of
from videogen_assets.partitions import model_versions
from videogen_assets.placement import OWNERS
from videogen_assets.references import DIGEST
from videogen_assets.refusals import PATIENCE, WOULD_DROP, final_refusals
from videogen_assets.shown import Cell, Metadata, links, table

if TYPE_CHECKING:
    from videogen.evidence import Judgement


class Serving(dg.Config):
    """What a promotion may take away."""

    drop: list[str] = Field(default=[], description="Served targets that may be left without an engine.")


@dg.asset(
    deps=[quality_report],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"mlflow"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
)
def promotion(
    context: dg.AssetExecutionContext,
    config: Serving,
    artifacts: ArtifactsResource,
    registry: RegistryResource,
    store: StoreResource,
) -> dg.MaterializeResult:
    """Moves the champion pointer to this version, with the engines that passed; then MLflow's alias and tags."""
    kept, label = artifacts.artifacts(), context.partition_key
    with final_refusals():
        contest = go_on_with_contest(context.instance, kept, store.store(), label)
        version = registry.registry().version(*parse_label(label))  # what was deleted meanwhile must not serve
        judgements = judgements_of(context.instance, kept, label)
        champion = champion_of(contest, judgements, warm_ups_of(context.instance, kept, label), label)
        refuse_to_drop(contest, champion, config.drop)
        passed = [(target, gate.reason) for target in champion.targets for gate in judgements[target].gates.gates]
        reason = "; ".join(f"{target}: {why}" for target, why in passed)
        serving, unmirrored = promote(store.store(), registry.registry(), champion, contest.generation, reason)
    if unmirrored:
        context.log.warning("MLflow could not be told, the version sensor will: %s", unmirrored)
    previous = serving.previous.label if serving.previous else "none"
    rows: list[dict[str, Cell]] = [
        {
            "target": target,
            "precision": one.precision,
            "batch size": one.batch_size,
            "engine": one.engine_key,
            "gate report": one.gate_report,
        }
        for target, one in serving.targets.items()
    ]
    metadata: Metadata = {
        DIGEST: serving.version_digest,
        "champion/generation": serving.generation,
        "champion/previous": previous,
        "serving": table(rows),
        **({"champion/dropped": ", ".join(sorted(dropped(contest, serving)))} if dropped(contest, serving) else {}),
        "way_back": f"videogen models rollback {parse_label(label)[0]}",
        **({"mlflow/unreachable": unmirrored} if unmirrored else {}),
        **links({"mlflow": registry.registry().ui_url(version)}),
    }
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(serving.version_digest))


def dropped(contest: Contest, serving: Champion) -> set[str]:
    """Targets that what serves now has an engine for, and this champion has not."""
    return set(contest.champion.targets) - set(serving.targets) if contest.champion else set()


def refuse_to_drop(contest: Contest, champion: Champion, allowed: Sequence[str]) -> None:
    """Raises dg.Failure if a target would be left without an engine that nobody said may be."""
    gone = sorted(dropped(contest, champion) - set(allowed))
    if gone:
        raise dg.Failure(
            f"{champion.label} would leave {', '.join(gone)} without an engine, and requests there waiting; build it "
            f"where such a device is, or materialise promotion with drop: [{', '.join(gone)}]",
            metadata={"kind": WOULD_DROP},
            allow_retries=False,
        )


def champion_of(
    contest: Contest, judgements: "Mapping[str, Judgement]", warm_ups: Mapping[str, WarmUp], label: str
) -> Champion:
    """The record of this version with every target that passed all its gates.

    Raises dg.Failure if none did, or if what was judged is not what would serve: an engine or the champion is another.
    """
    for one in contest.own:
        if one.target not in judgements or judgements[one.target].engine_key != one.engine_key:
            raise dg.Failure(f"{label}: its engine for {one.target} was not judged; {AGAIN}", allow_retries=False)
    passed = {target: one.gates for target, one in judgements.items() if one.gates.outcome == "pass"}
    targets = {
        one.target: ServedEngine(
            one.engine_key,
            one.precision,
            passed[one.target].digest,
            one.batch_size,
            warm_ups[one.target].seconds_per_video,
        )
        for one in contest.own
        if one.target in passed
    }
    if not targets:
        reasons = "; ".join(f"{target}: {one.gates.reason}" for target, one in judgements.items())
        raise dg.Failure(f"no target of {label} passed all its gates: {reasons}", allow_retries=False)
    return Champion(contest.own[0].model.version_digest, label, targets)


class Model(dg.Config):
    """Which model goes back."""

    model: str = "videogen-tiny"


@dg.op(description="Brings back the champion before this one; nothing is built.")
def bring_back(context: dg.OpExecutionContext, config: Model, registry: RegistryResource, store: StoreResource) -> None:
    with final_refusals():
        champion, unmirrored = roll_back(store.store(), registry.registry(), config.model)
    context.log.info("%s serves %s again", champion.label, config.model)
    if unmirrored:
        context.log.warning("MLflow could not be told, the version sensor will: %s", unmirrored)


@dg.job(description="The way back: the previous champion of a model serves again, in seconds.")
def rollback() -> None:
    bring_back()
