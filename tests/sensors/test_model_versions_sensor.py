"""The shell over a real MLflow and a real store."""

from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from safetensors.numpy import save_file

from resources.registry import RegistryResource
from resources.store import StoreResource
from sensors.model_versions import new_model_versions
from videogen import mlflow_client
from videogen.promotion import ASKED, DECISION
from videogen.registry import ModelRegistry
from videogen.store.records import Champion
from videogen.store.store import Store


@pytest.fixture
def registry(mlflow_uri):
    return ModelRegistry(mlflow_uri)


@pytest.fixture
def store(tmp_path):
    with Store.open(f"embedded:{tmp_path / 'store'}") as store:
        yield store


@pytest.fixture(scope="module")
def instance():
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


@pytest.fixture
def look(tmp_path, mlflow_uri, instance):
    """Evaluates the sensor once, as the daemon would."""

    def evaluate(cursor=None, uri=mlflow_uri) -> dg.SensorResult:
        resources = {
            "registry": RegistryResource(tracking_uri=uri),
            "store": StoreResource(url=f"embedded:{tmp_path / 'store'}"),
        }
        with dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources) as context:
            return new_model_versions(context)

    return evaluate


@pytest.fixture
def register(registry, tmp_path):
    def register(seed: int, name: str = "tiny"):
        folder = Path(tmp_path / f"{name}-{seed}")
        folder.mkdir(exist_ok=True)
        save_file({"weight": np.full(8, float(seed))}, folder / "weights.safetensors")
        return registry.register(name, folder)

    return register


def _started(result: dg.SensorResult) -> list[str]:
    return [run.partition_key for run in result.run_requests]


def test_an_empty_registry_is_said_to_be_empty(look):
    assert look().skip_reason.skip_message == "Nothing new: no models in MLflow."


def test_new_versions_get_partitions_and_runs_once(look, register):
    digests = [register(seed).digest for seed in range(2)]
    register(0, "other")
    first = look()
    assert _started(first) == ["other@1", "tiny@1", "tiny@2"]
    assert first.run_requests[2].run_key == f"tiny@2:{digests[1][:12]}"
    (partitions,) = first.dynamic_partitions_requests
    assert partitions.partitions_def_name == "model_version"
    assert list(partitions.partition_keys) == ["other@1", "tiny@1", "tiny@2"]
    second = look(first.cursor)
    assert _started(second) == []
    assert second.skip_reason.skip_message == "Nothing new: 2 models (other up to 1, tiny up to 2)."
    register(2)
    assert _started(look(second.cursor)) == ["tiny@3"]


def test_a_burst_is_spread_and_none_is_lost(look, register):
    for seed in range(7):
        register(seed)
    first = look()
    second = look(first.cursor)
    assert _started(first) + _started(second) == [f"tiny@{number}" for number in range(1, 8)]


def test_the_candidate_alias_starts_a_run_and_other_tags_and_aliases_do_not(look, register, registry):
    register(0), register(1)
    cursor = look().cursor
    registry.set_tags("tiny", 1, {"approved": "yes"})
    registry.set_alias("tiny", "favourite", 1)
    after = look(cursor)
    assert _started(after) == []
    registry.set_alias("tiny", "candidate", 1)
    asked = look(after.cursor)
    assert _started(asked) == ["tiny@1"]
    assert asked.run_requests[0].tags == {"videogen/reason": "candidate"}
    assert asked.run_requests[0].run_config == {"ops": {"warm_up": {"config": {"again": True}}}}
    assert _started(look(asked.cursor)) == []


def test_who_asks_for_the_same_candidate_again_gets_another_run(look, register, registry):
    register(0)
    first = look()
    assert first.run_requests[0].run_config == {}
    registry.set_alias("tiny", "candidate", 1)
    cursor, keys = first.cursor, []
    for asked in ("once", "twice"):
        registry.set_tags("tiny", 1, {ASKED: asked})
        result = look(cursor)
        assert _started(result) == ["tiny@1"]
        cursor = result.cursor
        keys += [run.run_key for run in result.run_requests]
        assert _started(look(cursor)) == []
    assert len(set(keys)) == 2


def test_a_model_that_was_deleted_and_came_back_starts_again_at_1(look, register, mlflow_uri):
    register(0), register(1)
    cursor = look().cursor
    with mlflow_client.session(mlflow_uri, mlflow_uri) as client:
        client.delete_registered_model("tiny")
    again = register(5)
    assert again.version == 1
    result = look(cursor)
    assert [run.run_key for run in result.run_requests] == [f"tiny@1:{again.digest[:12]}"]
    assert _started(look(result.cursor)) == []


def test_the_alias_is_mended_from_the_pointer_and_mending_starts_nothing(look, register, registry, store):
    one, two = register(0), register(1)
    cursor = look().cursor
    store.promote("tiny", Champion(two.digest, two.label), expected_generation=0)
    registry.set_alias("tiny", "champion", one.version)
    drifted = look(cursor)
    assert registry.aliases("tiny") == {"champion": 2}
    assert registry.version("tiny", 2).tags[DECISION] == "promoted"
    assert drifted.run_requests == []
    assert "alias champion follows the store again: tiny" in drifted.skip_reason.skip_message
    calm = look(drifted.cursor)
    assert calm.skip_reason.skip_message == "Nothing new: 1 models (tiny up to 2)."
    assert calm.cursor == drifted.cursor


def test_a_champion_that_mlflow_has_no_more_is_left_alone(look, register, registry, store):
    register(0)
    store.promote("tiny", Champion("f" * 64, "tiny@9"), expected_generation=0)
    look()
    assert registry.aliases("tiny") == {}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_around_the_mending_the_next_tick_does_the_same(look, register, registry, store, monkeypatch, after):
    one, two = register(0), register(1)
    store.promote("tiny", Champion(one.digest, one.label), expected_generation=0)
    registry.set_alias("tiny", "champion", two.version)
    set_alias = ModelRegistry.set_alias

    def dies(self, *arguments):
        if after:
            set_alias(self, *arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ModelRegistry, "set_alias", dies)
        with pytest.raises(KeyboardInterrupt):
            look()
    assert _started(look()) == ["tiny@1", "tiny@2"]
    assert registry.aliases("tiny") == {"champion": 1}


def test_an_mlflow_that_is_away_is_named_and_moves_no_cursor(look, register):
    register(0)
    cursor = look().cursor
    away = look(cursor, "http://127.0.0.1:9")
    assert away.run_requests in (None, []) and away.cursor == cursor
    assert "MLflow does not answer" in away.skip_reason.skip_message
    register(1)
    assert _started(look(away.cursor)) == ["tiny@2"]


def test_what_a_tick_costs_does_not_grow_with_versions(look, register, mlflow_uri, registry, monkeypatch):
    for seed in range(6):
        register(seed)
    cursor = look(look().cursor).cursor
    asked = []
    versions = ModelRegistry.versions
    monkeypatch.setattr(ModelRegistry, "versions", lambda self, *a, **k: asked.append(a) or versions(self, *a, **k))
    look(cursor)
    assert asked == []
