"""Blocking checks with three outcomes. Dagster knows two, so *inconclusive* is a failed check that says so."""

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from videogen_assets.partitions import model_versions
from videogen_assets.shown import table

if TYPE_CHECKING:
    from videogen.quality.gates import GateReport

Check = Callable[..., dg.AssetCheckResult]


def gate(asset: dg.AssetsDefinition, description: str, **where: Any) -> Callable[[Check], dg.AssetChecksDefinition]:
    """A check that blocks what stands on `asset`, for the one version that it looked at."""

    def decorate(check: Check) -> dg.AssetChecksDefinition:
        with warnings.catch_warnings():
            # partitions_def on checks is a preview: the reason why dagster is pinned.
            warnings.simplefilter("ignore", dg.PreviewWarning)
            made = dg.asset_check(
                asset=asset, blocking=True, partitions_def=model_versions, description=description, **where
            )
            return made(check)

    return decorate


def verdict(reports: Mapping[Any, "GateReport"], without_evidence: Mapping[Any, str]) -> dg.AssetCheckResult:
    """The check's result from the gates of each target: one target that passed is enough to go on.

    `without_evidence` names the targets that could not be measured here, and why; they block nothing but themselves.
    """
    outcomes = {target: report.outcome for target, report in reports.items()}
    outcome = next((found for found in ("pass", "fail") if found in outcomes.values()), "inconclusive")
    deciding = [f"{target}: {report.reason}" for target, report in reports.items() if report.outcome == outcome]
    reason = "; ".join(deciding) or "no target could be measured on this machine"
    unproven = {f"unproven/{target}": why for target, why in without_evidence.items()}
    metadata = {"outcome": outcome, "reason": reason, "gates": gates_table(reports), **unproven}
    return dg.AssetCheckResult(passed=outcome == "pass", description=f"{outcome}: {reason}"[:1000], metadata=metadata)


def evaluations_of(instance: dg.DagsterInstance, run_id: str) -> list[dg.AssetCheckEvaluation]:
    """What the checks of a run found."""
    logs = instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION)
    return [entry.dagster_event.asset_check_evaluation_data for entry in logs if entry.dagster_event]


def gates_table(reports: Mapping[Any, "GateReport"]) -> dg.TableMetadataValue:
    """Every gate of every target, a row each."""
    return table(
        [
            {"target": target, "gate": found.name, "outcome": found.outcome, "value": found.value, "low": found.low,
             "high": found.high, "limit": found.limit, "n": found.n, "reason": found.reason}
            for target, report in reports.items()
            for found in report.gates
        ]
    )  # fmt: skip
