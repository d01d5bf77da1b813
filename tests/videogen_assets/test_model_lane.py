"""From a registered version to the champion pointer, through the real job: who does not pass is told why."""

from pathlib import Path
from urllib.parse import urlparse
from urllib.request import url2pathname

import dagster as dg
import pytest

from resources.registry import RegistryResource
from tests.fixtures.gpu import has_gpu
from tests.fixtures.random_models import write_random_tiny
from tests.videogen_assets.conftest import Installation
from tests.videogen_assets.lifecycle import (
    FEW,
    FEWEST,
    LABEL,
    NAME,
    checks,
    latest,
    materialised,
    run_first,
    run_lifecycle,
    with_gates,
)  # fmt: skip
from videogen import mlflow_client
from videogen.judging import GATES
from videogen.store.records import Champion, ServedEngine
from videogen_assets.definitions import defs


def test_too_little_evidence_is_measured_kept_and_not_a_pass(installation, tiny_folder, measured_once) -> None:
    result = run_first(installation, tiny_folder, FEW, measured_once / "refused")
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
    tags = installation.registry.version(NAME, 1).tags
    assert tags["dagster_run_id"] == result.run_id and tags["judgement"] == folder.name


def test_run_again_everything_is_reused_and_mlflow_gets_no_second_run(installation, tiny_folder, measured_once) -> None:
    run_first(installation, tiny_folder, FEW, measured_once / "refused")
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
def promoted(installation, tiny_folder, measured_once, monkeypatch, tmp_path) -> Installation:
    """Version 1 went through the job and serves."""
    with_gates(monkeypatch, tmp_path)
    assert run_first(installation, tiny_folder, FEWEST, measured_once / "promoted").success
    return installation


def promote_again(installation: Installation) -> str:
    """Materialises `promotion` alone and returns what it failed with, if it did."""
    job = defs().resolve_job_def("model_lifecycle")
    result = job.execute_in_process(
        partition_key=LABEL, instance=installation.instance, asset_selection=[dg.AssetKey("promotion")],
        raise_on_error=False,
    )  # fmt: skip
    failures = [event for event in result.all_events if event.is_step_failure]
    return str(failures[0].step_failure_data.user_failure_data) if failures else ""


def test_a_first_version_that_passes_serves_with_the_engine_that_was_judged(promoted) -> None:
    champion = promoted.store.champion(NAME)
    assert champion.label == LABEL and champion.generation == 1
    served = champion.targets["cpu"]
    assert served.engine_key == latest(promoted, "engine")["engine_key"].value
    assert promoted.registry.aliases(NAME) == {"champion": 1}
    assert promoted.registry.version(NAME, 1).tags["videogen.champion_generation"] == "1"


def test_promoting_the_champion_once_more_changes_nothing(promoted) -> None:
    assert promote_again(promoted) == ""
    assert promoted.store.champion(NAME).generation == 1


def test_what_was_measured_against_another_champion_is_not_promoted(promoted, tmp_path) -> None:
    other = Champion("b" * 64, "videogen-tiny@2", {"cpu": ServedEngine("e", "fp32", "r")})
    promoted.store.promote(NAME, other, 1)
    assert "materialise warm_up and what follows it again" in promote_again(promoted)
    assert promoted.store.champion(NAME).label == "videogen-tiny@2"


def test_an_engine_that_was_not_judged_does_not_serve(promoted) -> None:
    (proof,) = latest(promoted, "engine")["targets"].value
    built_since = {"targets": dg.MetadataValue.json([proof | {"engine_key": "f" * 64}])}
    promoted.instance.report_runless_asset_event(
        dg.AssetMaterialization("engine", partition=LABEL, metadata=built_since)
    )
    assert "its engine for cpu was not measured" in promote_again(promoted)


def test_a_version_that_was_deleted_after_it_was_measured_does_not_serve(promoted) -> None:
    promoted.store.promote(NAME, Champion("b" * 64, "videogen-tiny@2", {}), 1)
    promoted.store.rollback(NAME)
    with mlflow_client.session(promoted.registry.tracking_uri, promoted.registry.tracking_uri) as client:
        client.delete_model_version(NAME, "1")
    assert "videogen-tiny@1 is not in the registry" in promote_again(promoted)


def test_weights_that_were_changed_in_the_registry_end_the_run_and_are_named(installation, tmp_path) -> None:
    folder = write_random_tiny(tmp_path / "never pulled before", seed=3)
    version = installation.registry.register(NAME, folder, "random weights")
    weights = Path(url2pathname(urlparse(version.source).path)) / "vae" / "diffusion_pytorch_model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    result = run_lifecycle(installation, LABEL, FEW)
    assert not result.success and not materialised(result)
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert "vae/diffusion_pytorch_model.safetensors" in str(failure.step_failure_data.user_failure_data)


@pytest.mark.slow
def test_a_target_that_cannot_run_here_is_built_and_blocks_only_itself(installation, tiny_folder, monkeypatch) -> None:
    if has_gpu():
        pytest.skip("this machine has a GPU, where the engine runs")
    pytest.importorskip("tensorrt_rtx")
    monkeypatch.setenv("VIDEOGEN_TARGETS", "cpu,tensorrt-rtx")
    installation.registry.register(NAME, tiny_folder, "random weights")
    result = run_lifecycle(installation, LABEL, FEW)
    proofs = {proof["target"]: proof for proof in latest(installation, "engine")["targets"].value}
    assert proofs["cpu"]["state"] == "proven"
    assert proofs["tensorrt-rtx"]["state"] == "built, unproven" and "NVIDIA GPU" in proofs["tensorrt-rtx"]["reason"]
    assert installation.artifacts.get("engines", proofs["tensorrt-rtx"]["engine_key"]).is_dir()
    fidelity = checks(result)["engine_fidelity"]
    assert fidelity.passed and "NVIDIA GPU" in str(fidelity.metadata["unproven/tensorrt-rtx"].value)


@pytest.fixture
def two_champions(installation, tiny_folder, tmp_path) -> Installation:
    """Version 2 serves, version 1 did before."""
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
