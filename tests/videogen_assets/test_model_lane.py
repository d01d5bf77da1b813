"""From a registered version to the champion pointer, through the real job: who does not pass is told why."""

import dagster as dg
import pytest

from resources.registry import RegistryResource
from tests.videogen_assets.conftest import Installation
from videogen.judging import GATES
from videogen.store.records import Champion, ServedEngine
from videogen_assets.definitions import defs
from videogen_assets.partitions import model_versions

NAME, LABEL = "videogen-tiny", "videogen-tiny@1"
FEW = {"ops": {"evaluation_videos": {"config": {"count": 24}}}}
"""Too few prompts for any gate on agreement: their minimum is 48."""


def run_lifecycle(installation: Installation, label: str, config: dict) -> dg.ExecuteInProcessResult:
    installation.instance.add_dynamic_partitions(model_versions.name, [label])
    job = defs().resolve_job_def("model_lifecycle")
    return job.execute_in_process(
        partition_key=label, instance=installation.instance, run_config=config, raise_on_error=False
    )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {found.check_name: found for found in result.get_asset_check_evaluations()}


def materialised(result: dg.ExecuteInProcessResult) -> set[str]:
    return {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}


def latest(installation: Installation, asset: str) -> dict[str, dg.MetadataValue]:
    event = installation.instance.get_latest_materialization_event(dg.AssetKey(asset))
    assert event is not None and event.asset_materialization is not None
    return dict(event.asset_materialization.metadata)


def test_too_little_evidence_is_measured_kept_and_not_a_pass(installation, tiny_folder) -> None:
    version = installation.registry.register(NAME, tiny_folder, "random weights")
    result = run_lifecycle(installation, LABEL, FEW)
    assert not result.success
    assert materialised(result) >= {"engine", "warm_up", "evaluation_videos", "quality_report"}
    assert "promotion" not in materialised(result) and installation.store.champion(NAME) is None
    found = checks(result)
    assert {name for name, check in found.items() if check.passed} == {
        "files_intact",
        "engine_fidelity",
        "no_regression",
    }
    assert found["prompt_agreement"].metadata["outcome"].value == "inconclusive"
    assert "at least 48" in str(found["prompt_agreement"].description) or "48" in str(
        found["prompt_agreement"].description
    )

    kept = latest(installation, "quality_report")
    folder = installation.artifacts.get("judgements", str(kept["judgement"].value))
    assert {GATES, "distances.json", "report.html", "contact_sheet.png"} <= {path.name for path in folder.iterdir()}
    tags = installation.registry.version(NAME, version.version).tags
    assert tags["dagster_run_id"] == result.run_id and tags["judgement"] == folder.name


def test_run_again_everything_is_reused_and_mlflow_gets_no_second_run(installation, tiny_folder) -> None:
    installation.registry.register(NAME, tiny_folder, "random weights")
    run_lifecycle(installation, LABEL, FEW)
    before = installation.registry.version(NAME, 1).tags["evaluation_run_id"]
    run_lifecycle(installation, LABEL, FEW)
    assert installation.registry.version(NAME, 1).tags["evaluation_run_id"] == before
    for asset in ("onnx_graph", "evaluation_videos", "quality_report"):
        assert str(latest(installation, asset)["state"].value).startswith("reused"), asset


def test_a_version_that_mlflow_no_longer_has_ends_its_run_and_says_so(installation) -> None:
    result = run_lifecycle(installation, "videogen-tiny@7", FEW)
    assert not result.success and not materialised(result)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "videogen-tiny@7 is not in the registry" in str(failure.step_failure_data.user_failure_data)


@pytest.fixture
def two_champions(installation, tiny_folder, tmp_path) -> Installation:
    """Version 2 serves, version 1 did before."""
    from tests.fixtures.random_models import write_random_tiny

    for number, folder in enumerate((tiny_folder, write_random_tiny(tmp_path / "second", seed=1)), 1):
        version = installation.registry.register(NAME, folder, "random weights")
        served = {"cpu": ServedEngine(f"engine {number}", "fp32", "report")}
        installation.store.promote(NAME, Champion(version.digest, version.label, served), number - 1)
    return installation


def roll_back(installation: Installation, **options) -> dg.ExecuteInProcessResult:
    return defs().resolve_job_def("rollback").execute_in_process(instance=installation.instance, **options)


def test_the_job_brings_the_previous_champion_back_in_the_store_and_in_mlflow(two_champions) -> None:
    assert roll_back(two_champions).success
    champion = two_champions.store.champion(NAME)
    assert champion.label == LABEL and champion.targets["cpu"].engine_key == "engine 1"
    assert two_champions.registry.aliases(NAME) == {"champion": 1}
    assert two_champions.registry.version(NAME, 1).tags["videogen.decision"] == "rolled back to"


def test_with_mlflow_away_the_pointer_moves_all_the_same(two_champions) -> None:
    away = {"registry": RegistryResource(tracking_uri="http://127.0.0.1:9")}
    assert roll_back(two_champions, resources={**two_champions.resources, **away}).success
    assert two_champions.store.champion(NAME).label == LABEL


def test_with_nothing_to_go_back_to_it_fails_and_says_so(installation) -> None:
    result = roll_back(installation, raise_on_error=False)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "no previous champion" in str(failure.step_failure_data.user_failure_data)
