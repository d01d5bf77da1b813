"""A second version beside the champion, through the real job: promoted on evidence, or refused and asked for again."""

import dagster as dg
import pytest

from resources.registry import RegistryResource
from resources.store import StoreResource
from sensors.model_versions import MEASURE_AGAIN
from sensors.refused_versions import refused_versions
from tests.fixtures.random_models import write_random_tiny
from tests.videogen_assets.conftest import Installation
from tests.videogen_assets.lifecycle import FEWEST, LABEL, NAME, checks, latest, run_lifecycle, with_gates
from videogen.evaluation import KIND, read_evaluation
from videogen.promotion import CANDIDATE, DECISION, REASON
from videogen.quality.gates import GateReport
from videogen.warming import KIND as WARM_UPS_KIND
from videogen.warming import read_warm_up
from videogen_assets.models.quality import judgements_of

SECOND = "videogen-tiny@2"
ANYTHING_GOES = {
    "agreement_regression": "minimum_pairs = 8\nmargin = 1.0",
    "kvd_regression": "minimum_clips = 8\nmargin = 1000.0",
    "latency_regression": "ratio = 100.0",
}
SLOWER_IS_REFUSED = {**ANYTHING_GOES, "kvd_regression": "minimum_clips = 24", "latency_regression": "ratio = 0.01"}


@pytest.fixture
def served(installation, tiny_folder, tmp_path, monkeypatch) -> Installation:
    """Version 1 serves, version 2 is registered."""
    with_gates(monkeypatch, tmp_path)
    installation.registry.register(NAME, tiny_folder, "random weights")
    assert run_lifecycle(installation, LABEL, FEWEST).success
    installation.registry.register(NAME, write_random_tiny(tmp_path / "second", seed=1), "other random weights")
    return installation


def tags(installation: Installation, number: int) -> dict[str, str]:
    return dict(installation.registry.version(NAME, number).tags)


def tell(installation: Installation, result: dg.ExecuteInProcessResult, uri: str | None = None) -> str:
    """Evaluates the sensor on a run that failed, as the daemon would."""
    base = dg.build_run_status_sensor_context(
        sensor_name="refused_versions",
        dagster_event=result.get_run_failure_event(),
        dagster_instance=installation.instance,
        dagster_run=result.dagster_run,
        resources={"registry": RegistryResource(tracking_uri=uri), "store": StoreResource()},
    )
    with base as context:
        return str(refused_versions(context.for_run_failure()).skip_message)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_second_version_is_held_against_the_champion_as_both_serve(served, tmp_path, monkeypatch) -> None:
    with_gates(monkeypatch, tmp_path, **ANYTHING_GOES)
    result = run_lifecycle(served, SECOND, FEWEST)
    assert result.success, {name: check.description for name, check in checks(result).items()}
    judged = judgements_of(served.instance, served.artifacts, SECOND)["cpu"]
    regression = judged.regression or GateReport(())
    assert [(gate.name, gate.outcome) for gate in regression.gates] == [
        ("agreement_regression", "pass"),
        ("kvd_regression", "pass"),
        ("latency_regression", "pass"),
    ]
    champion = served.store.champion(NAME)
    assert champion.label == SECOND and champion.previous.label == LABEL

    measured = read_warm_up(served.artifacts.get(WARM_UPS_KIND, latest(served, "warm_up")["warm_ups"].value["cpu"]))
    keys = latest(served, "evaluation_videos")["evaluations"].value
    asked = {name: read_evaluation(served.artifacts.get(KIND, key)).batch_size for name, key in keys.items()}
    assert champion.targets["cpu"].batch_size == asked["cpu"] == measured.batch_size
    assert champion.previous.targets["cpu"].batch_size == asked["champion"]
    most = max(asked.values())
    assert set(measured.timings.candidate) == set(measured.timings.champion) == {1, most}

    assert tags(served, 2)[DECISION] == "promoted" and "latency_regression" in tags(served, 2)[REASON]
    assert (tags(served, 1)[DECISION], tags(served, 1)[REASON]) == ("replaced", f"{SECOND} was promoted")


def test_a_refused_version_says_why_in_mlflow_and_can_be_asked_for_again(served, tmp_path, monkeypatch) -> None:
    with_gates(monkeypatch, tmp_path, **SLOWER_IS_REFUSED)
    served.registry.set_alias(NAME, CANDIDATE, 2)
    result = run_lifecycle(served, SECOND, FEWEST)
    assert not result.success and not checks(result)["no_regression"].passed
    assert "MLflow was not told" in tell(served, result, "http://127.0.0.1:9")
    assert f"{SECOND} is refused" in tell(served, result)
    assert tags(served, 2)[DECISION] == "refused" and "latency_regression" in tags(served, 2)[REASON]
    assert served.registry.aliases(NAME) == {"champion": 1}

    first = latest(served, "warm_up")["warm_ups"].value
    run_lifecycle(served, SECOND, FEWEST)
    assert latest(served, "warm_up")["warm_ups"].value == first
    again = {"ops": {**FEWEST["ops"], **MEASURE_AGAIN["ops"]}}
    run_lifecycle(served, SECOND, again)
    assert latest(served, "warm_up")["warm_ups"].value != first


def test_a_run_that_broke_off_decides_nothing(served) -> None:
    away = {**served.resources, "registry": RegistryResource(tracking_uri="http://127.0.0.1:9")}
    broken = run_lifecycle(served, SECOND, FEWEST, away)
    assert "decided nothing" in tell(served, broken)
    assert DECISION not in tags(served, 2)
