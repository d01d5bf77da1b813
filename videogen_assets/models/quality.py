"""All gates of a version, measured once, kept as evidence and written to MLflow."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DeviceResource
from resources.media import MediaResource
from resources.registry import RegistryResource
from resources.store import StoreResource
from videogen.artifacts import Artifacts
from videogen.evaluation import KIND as EVALUATIONS_KIND
from videogen.evaluation import read_evaluation
from videogen_assets.checks import gate, gates_table, verdict
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.labels import parse_label
from videogen_assets.models.candidates import AGAIN, Contest, go_on_with_contest
from videogen_assets.models.evaluation import EVALUATIONS, RIVAL, evaluation_videos
from videogen_assets.models.targets import proofs_of
from videogen_assets.models.warm_ups import warm_ups_of
from videogen_assets.partitions import model_versions
from videogen_assets.placement import ON_DEVICE, OWNERS
from videogen_assets.references import latest_json, reference
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import Metadata, age, chart, links

if TYPE_CHECKING:
    from videogen.evidence import Evidence, Judgement
    from videogen.judging import Case, Judged
    from videogen.quality.gates import GateReport

JUDGEMENT = "judgement"
RUN_TAG = "evaluation_run_id"
"""What the registry calls the MLflow run that holds a version's evidence."""


@dg.asset(
    deps=[evaluation_videos],
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"mlflow", "torch"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
    **ON_DEVICE,
)
def quality_report(
    context: dg.AssetExecutionContext,
    artifacts: ArtifactsResource,
    engines: EnginesResource,
    device: DeviceResource,
    store: StoreResource,
    registry: RegistryResource,
    media: MediaResource,
) -> dg.MaterializeResult:
    """Prompt agreement, FVD and KVD with their floor, and every gate, alone and beside the champion; in MLflow too."""
    from videogen.evidence import Features
    from videogen.judging import Judge
    from videogen.quality.gates import read_settings

    kept, label = artifacts.artifacts(), context.partition_key
    with final_refusals():
        with device.lease("shared", f"judge {label}"):
            contest = go_on_with_contest(context.instance, kept, store.store(), label)
            cases, champion = evidence_for(context.instance, kept, contest, label)
            judge = Judge(kept, read_settings(), Features(kept, engines.thread_count()))
            judged = judge.ensure(cases, champion, _facts(contest))
        numbers = _numbers(cases, judged)
        run_id = _in_mlflow(registry, label, contest, judged, numbers, context.run.run_id)
        pages = {"mlflow_run": registry.registry().run_url(run_id)}
    return dg.MaterializeResult(
        metadata={
            JUDGEMENT: judged.folder.name,
            "state": "measured" if judged.is_new else f"reused, measured {age(judged.folder)} ago",
            "compared_with": contest.rival.model.label if contest.rival else "nothing: no other version serves",
            "gates": gates_table({target: one.gates for target, one in judged.judgements.items()}),
            **numbers,
            **({"fvd/unavailable": judged.unavailable} if judged.unavailable else {}),
            **_page(media, label, judged),
            **_charts(cases, champion),
            **links(pages),
        }
    )


@gate(quality_report, "Held-out prompts get what they name often enough, by the lower end of the interval.")
def prompt_agreement(context: dg.AssetCheckExecutionContext, artifacts: ArtifactsResource) -> dg.AssetCheckResult:
    found = judgements_of(context.instance, artifacts.artifacts(), context.partition_key)
    return verdict({target: one.floor for target, one in found.items()}, unmeasured(context))


@gate(
    quality_report,
    "Same prompts and seeds as the champion: agreement, KVD and T(B) are no worse, but for a margin.",
)
def no_regression(context: dg.AssetCheckExecutionContext, artifacts: ArtifactsResource) -> dg.AssetCheckResult:
    found = judgements_of(context.instance, artifacts.artifacts(), context.partition_key)
    reports = {target: one.regression for target, one in found.items() if one.regression is not None}
    if found and not reports:
        reason = "no other version serves: the absolute floors decide"
        return dg.AssetCheckResult(passed=True, description=reason, metadata={"outcome": "pass", "reason": reason})
    return verdict(reports, unmeasured(context))


def evidence_for(
    instance: dg.DagsterInstance, artifacts: Artifacts, contest: Contest, label: str
) -> "tuple[list[Case], Evidence | None]":
    """What the assets before this one left: a case per target, and the champion's answers. Raises NotMaterialised."""
    from videogen.evidence import Evidence
    from videogen.judging import Case

    answered = latest_json(instance, "evaluation_videos", label, EVALUATIONS)
    warm_ups = warm_ups_of(instance, artifacts, label)

    def evidence(name: str, fps: int) -> Evidence:
        if name not in answered:
            raise dg.Failure(f"{label}: there are no evaluation videos for {name}; {AGAIN}", allow_retries=False)
        folder = artifacts.get(EVALUATIONS_KIND, answered[name])
        return Evidence(folder, read_evaluation(folder), fps)

    cases = [
        Case(one.target, evidence(one.target, one.model.spec.fps), warm_ups[one.target].timings) for one in contest.own
    ]
    return cases, evidence(RIVAL, contest.rival.model.spec.fps) if contest.rival else None


def judgements_of(instance: dg.DagsterInstance, artifacts: Artifacts, label: str) -> "Mapping[str, Judgement]":
    """Target -> what `quality_report` found. Raises NotMaterialised, ArtifactMissing, ArtifactCorrupt."""
    from videogen.evidence import judgements_from_json
    from videogen.judging import GATES, KIND

    folder = artifacts.get(KIND, reference(instance, "quality_report", label, JUDGEMENT))
    return judgements_from_json((folder / GATES).read_text())


def unmeasured(context: dg.AssetCheckExecutionContext) -> dict[str, str]:
    """The targets that could not be measured here, and why."""
    proofs = proofs_of(context.instance, context.partition_key)
    return {proof.target: f"{proof.state}: {proof.reason}" for proof in proofs if proof.state != "proven"}


def _facts(contest: Contest) -> dict[str, str]:
    facts = {f"engine for {one.target}": f"{one.precision}, {one.engine_key}" for one in contest.own}
    if contest.rival is not None:
        facts["compared with"] = contest.rival.model.label
    return {"version digest": contest.own[0].model.version_digest, **facts} if contest.own else facts


def _numbers(cases: "list[Case]", judged: "Judged") -> dict[str, float]:
    """Of the first target: what is plotted over versions, here and in MLflow."""
    numbers = {f"quality/{name}": value for name, value in judged.metrics.items()}
    for case in cases[:1]:
        shares = case.evidence.evaluation.agreement().shares()
        numbers |= {f"agreement/{name}": share.value for name, share in shares.items()}
        numbers |= _gate_numbers(judged.judgements[case.target].gates)
    return numbers


def _gate_numbers(report: "GateReport") -> dict[str, float]:
    return {f"gate/{found.name}": found.value for found in report.gates if found.value is not None}


def _in_mlflow(
    registry: RegistryResource,
    label: str,
    contest: Contest,
    judged: "Judged",
    numbers: Mapping[str, float],
    dagster_run_id: str,
) -> str:
    """The id of the MLflow run that holds this judgement, written now if there is none."""
    known = registry.registry()
    version = known.version(*parse_label(label))
    if version.tags.get(JUDGEMENT) == judged.folder.name and version.tags.get(RUN_TAG):
        return version.tags[RUN_TAG]
    params = {"targets": ", ".join(judged.judgements), "compared_with": contest.rival and contest.rival.model.label}
    files: dict[str, Path] = {f"evidence/{name}": path for name, path in judged.files.items()}
    run_id = known.log_evaluation(version, params | _facts(contest), numbers, files, dagster_run_id)
    known.set_tags(version.name, version.version, {JUDGEMENT: judged.folder.name})
    return run_id


def _page(media: MediaResource, label: str, judged: "Judged") -> Metadata:
    """The page about the version, laid out for people."""
    from videogen.version_report import REPORT

    if REPORT not in judged.files:
        return {}
    return {"report": dg.MetadataValue.path(media.write(f"{label}.html", judged.files[REPORT].read_bytes()))}


def _charts(cases: "list[Case]", champion: "Evidence | None") -> Metadata:
    from videogen.version_report import agreement_charts

    found: Metadata = {}
    for case in cases[:1]:
        beside = champion.evaluation if champion else None
        for number, svg in enumerate(agreement_charts(case.evidence.evaluation, beside), 1):
            found[f"chart/{number}"] = chart(svg, "prompt agreement")
    return found
