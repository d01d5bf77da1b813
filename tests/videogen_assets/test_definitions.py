"""The code location: light to load, and every step says where it runs, whose it is and what it is."""

import itertools
import json
import subprocess
import sys

import dagster as dg
import pytest

from resources.gpu import DEVICE_POOL, GPU_OP_TAGS
from videogen_assets.definitions import defs
from videogen_assets.jobs import BATCH_GROUP, MODEL_GROUP

HEAVY = ("aerospike", "av", "diffusers", "kubernetes", "mlflow", "numpy", "onnx", "onnxruntime", "openvino", "scipy",
         "tensorrt", "tensorrt_rtx", "torch", "transformers")  # fmt: skip
ON_DEVICE = ("engine", "warm_up", "evaluation_videos", "quality_report", "generated_videos")
LANES = {
    MODEL_GROUP: [
        "model_weights",
        "onnx_graph",
        "engine",
        "warm_up",
        "evaluation_videos",
        "quality_report",
        "promotion",
    ],
    BATCH_GROUP: ["request_batch", "generated_videos", "batch_quality"],
}
ALONE = "store_upkeep"


@pytest.fixture(scope="module")
def code_location() -> dg.Definitions:
    return defs()


@pytest.fixture(scope="module")
def assets(code_location) -> dict[str, dg.AssetsDefinition]:
    found = [asset for asset in code_location.assets or () if isinstance(asset, dg.AssetsDefinition)]
    return {asset.key.to_user_string(): asset for asset in found}


def test_loading_the_definitions_imports_nothing_that_a_model_needs():
    code = f"import sys, videogen_assets.definitions as d; d.defs(); print([m for m in {HEAVY} if m in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]"


def test_the_two_lanes_are_complete_and_in_order(assets):
    assert set(assets) == {ALONE, *(name for lane in LANES.values() for name in lane)}
    for group, lane in LANES.items():
        assert {assets[name].group_names_by_key[assets[name].key] for name in lane} == {group}
        for before, after in itertools.pairwise(lane):
            assert dg.AssetKey(before) in assets[after].asset_deps[dg.AssetKey(after)]


@pytest.mark.parametrize("name", [name for lane in LANES.values() for name in lane])
def test_each_asset_says_what_it_is_and_whose(assets, name):
    (spec,) = assets[name].specs
    assert spec.description and spec.kinds and spec.owners and spec.code_version
    assert spec.partitions_def is not None


def test_the_janitor_says_what_it_is_and_waits_to_be_started(assets, code_location):
    (spec,) = assets[ALONE].specs
    assert spec.description and spec.kinds and spec.owners and spec.code_version
    (schedule,) = code_location.schedules or ()
    assert schedule.job_name == "upkeep" and schedule.default_status == dg.DefaultScheduleStatus.STOPPED


@pytest.mark.parametrize("name", ON_DEVICE)
def test_what_needs_a_device_carries_the_pool_and_asks_kubernetes_for_a_gpu(assets, name):
    assert assets[name].op.pool == DEVICE_POOL
    asked = json.loads(assets[name].op.tags["dagster-k8s/config"])
    assert asked["container_config"]["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    assert GPU_OP_TAGS.keys() <= assets[name].op.tags.keys()


def test_nothing_else_waits_for_a_device(assets):
    assert {name for name, asset in assets.items() if asset.op.pool} == set(ON_DEVICE)


def test_every_check_blocks_and_looks_at_one_version(code_location):
    checks = [check for asset in code_location.asset_checks or () for check in asset.check_specs]
    assert {check.name for check in checks} == {
        "files_intact", "engine_fidelity", "prompt_agreement", "no_regression"
    }  # fmt: skip
    assert all(check.blocking and check.description for check in checks)


def test_the_sensors_run_by_themselves(code_location):
    running = {sensor.name for sensor in code_location.sensors or () if sensor.default_status.value == "RUNNING"}
    assert running == {
        "new_model_versions", "waiting_requests", "failed_batch_runs", "cancelled_batch_runs", "refused_versions"
    }  # fmt: skip
