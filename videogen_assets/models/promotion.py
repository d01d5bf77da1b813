"""The version that passed every gate becomes champion: what requests get from then on."""

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.registry import RegistryResource
from resources.store import StoreResource
from videogen.artifacts import Artifacts
from videogen.promotion import promote, roll_back
from videogen.store.records import Champion, ServedEngine
from videogen.warming import KIND as WARM_UPS_KIND
from videogen.warming import read_warm_up
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.labels import parse_label
from videogen_assets.models.candidates import Contest, go_on_with_contest
from videogen_assets.models.quality import judgements_of, quality_report
from videogen_assets.models.warm_up import warm_ups_of
from videogen_assets.partitions import model_versions
from videogen_assets.placement import OWNERS
from videogen_assets.references import DIGEST
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Cell, Metadata, links, table


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
    context: dg.AssetExecutionContext, artifacts: ArtifactsResource, registry: RegistryResource, store: StoreResource
) -> dg.MaterializeResult:
    """Moves the champion pointer to this version, with the engines that passed; then MLflow's alias and tags."""
    kept, label = artifacts.artifacts(), context.partition_key
    with final_refusals():
        contest = go_on_with_contest(context.instance, kept, store.store(), label)
        version = registry.registry().version(*parse_label(label))  # what was deleted meanwhile must not serve
        champion = champion_of(contest, context.instance, kept, label)
        serving, unmirrored = promote(store.store(), registry.registry(), champion, contest.generation)
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
        **_no_longer_served(contest, serving),
        "way_back": f"videogen models rollback {parse_label(label)[0]}",
        **({"mlflow/unreachable": unmirrored} if unmirrored else {}),
        **links({"mlflow": registry.registry().ui_url(version)}),
    }
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(serving.version_digest))


def _no_longer_served(contest: Contest, serving: Champion) -> Metadata:
    """Targets that the champion before had an engine for, and this one has not: requests there have to wait."""
    gone = sorted(set(contest.champion.targets) - set(serving.targets)) if contest.champion else []
    return {"champion/no_longer_served": ", ".join(gone)} if gone else {}


def champion_of(contest: Contest, instance: dg.DagsterInstance, kept: Artifacts, label: str) -> Champion:
    """The record of this version with every target that passed all its gates.

    Raises dg.Failure if none did, or if what was judged is not what would serve: an engine or the champion is another.
    """
    judgements = judgements_of(instance, kept, label)
    for one in contest.own:
        if one.target not in judgements or judgements[one.target].engine_key != one.engine_key:
            again = "materialise warm_up and what follows it again"
            raise dg.Failure(f"{label}: its engine for {one.target} was not judged; {again}", allow_retries=False)
    passed = {target: one.gates for target, one in judgements.items() if one.gates.outcome == "pass"}
    warm_ups = warm_ups_of(instance, label)
    targets = {}
    for one in contest.own:
        if one.target in passed:
            batch_size = read_warm_up(kept.get(WARM_UPS_KIND, warm_ups[one.target])).batch_size
            targets[one.target] = ServedEngine(one.engine_key, one.precision, passed[one.target].digest, batch_size)
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
