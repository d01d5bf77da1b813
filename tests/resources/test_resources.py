import subprocess
import sys
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from resources.artifacts import ArtifactsResource
from resources.engines import EnginesResource
from resources.gpu import DEVICE_POOL, GPU_OP_TAGS, DeviceResource, gpu_op_tags
from resources.media import MediaResource
from resources.registry import RegistryResource
from resources.service import ServiceResource
from resources.store import StoreResource
from videogen.device_leases import DeviceLease
from videogen.errors import DeviceBusy

ALL = {
    "registry": RegistryResource(),
    "artifacts": ArtifactsResource(),
    "store": StoreResource(),
    "engines": EnginesResource(),
    "device": DeviceResource(),
    "media": MediaResource(),
    "service": ServiceResource(),
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for name in ("VIDEOGEN_STORE_URL", "VIDEOGEN_ARTIFACTS_URL", "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI",
                 "VIDEOGEN_TARGETS", "VIDEOGEN_THREADS", "VIDEOGEN_MLFLOW_UI", "VIDEOGEN_MLFLOW_PORT",
                 "VIDEOGEN_DEVICE_LOCKS"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_everything_works_with_nothing_set(home):
    assert ArtifactsResource().artifacts().url == str(home / "artifacts")
    registry = RegistryResource().registry()
    assert registry.tracking_uri == f"sqlite:///{home}/mlflow.db"
    assert registry.artifact_root == home / "mlartifacts"
    assert registry.ui == "http://127.0.0.1:5000"
    assert EnginesResource().targets_to_build() == ("cpu",)
    assert EnginesResource().thread_count() >= 1
    assert DeviceResource().device().name


def test_everything_follows_the_environment(monkeypatch):
    monkeypatch.setenv("VIDEOGEN_ARTIFACTS_URL", "s3://bucket/videogen")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://mlflow.example")
    monkeypatch.setenv("VIDEOGEN_TARGETS", "tensorrt,cpu")
    monkeypatch.setenv("VIDEOGEN_THREADS", "3")
    assert ArtifactsResource().artifacts().url == "s3://bucket/videogen"
    registry = RegistryResource().registry()
    assert (registry.tracking_uri, registry.artifact_root, registry.ui) == ("https://mlflow.example", None, None)
    monkeypatch.setenv("VIDEOGEN_MLFLOW_UI", "https://models.example")
    assert RegistryResource().registry().ui == "https://models.example"
    assert EnginesResource().targets_to_build() == ("cpu", "tensorrt")
    assert EnginesResource().thread_count() == 3


def test_a_field_outweighs_the_environment(monkeypatch):
    monkeypatch.setenv("VIDEOGEN_TARGETS", "tensorrt")
    assert EnginesResource(targets=["cpu"], threads=1).targets_to_build() == ("cpu",)
    with pytest.raises(ValueError, match=r"targets: got \['gpu'\]; allowed: one or more of cpu, tensorrt-rtx, t"):
        EnginesResource(targets=["gpu"])


def test_one_run_loads_an_engine_once_for_all_its_assets_and_checks():
    loads = []

    def load(threads: int) -> object:
        loads.append(threads)
        return object()

    @dg.asset
    def first(engines: EnginesResource) -> None:
        engines.warm("key", load)

    @dg.asset(deps=[first])
    def second(engines: EnginesResource) -> None:
        engines.warm("key", load)

    @dg.asset_check(asset=second)
    def third(engines: EnginesResource) -> dg.AssetCheckResult:
        engines.warm("key", load)
        return dg.AssetCheckResult(passed=True)

    resources = {"engines": EnginesResource(threads=2)}
    for _ in range(2):
        assert dg.materialize([first, second, third], resources=resources).success
    assert loads == [2, 2]  # once per run, and let go at its end


def test_the_store_is_opened_once_and_closed_with_the_run():
    seen = []

    @dg.asset
    def first(store: StoreResource) -> None:
        seen.append(store.store())
        seen.append(store.store())

    assert dg.materialize([first], resources={"store": StoreResource()}).success
    assert seen[0] is seen[1]


def test_a_lease_guards_the_device_between_resources(home):
    with DeviceResource().lease("exclusive", "measuring") as lease:
        assert isinstance(lease, DeviceLease)
        assert lease.device.name
        with pytest.raises(DeviceBusy, match="measuring"):
            with DeviceResource(wait_seconds=0.1).lease("shared", "generating"):
                pass
        with DeviceResource(locks=str(home / "elsewhere"), wait_seconds=0.1).lease("shared", "generating"):
            pass
    with DeviceResource(wait_seconds=5).lease("shared", "a"), DeviceResource(wait_seconds=5).lease("shared", "b"):
        pass


def test_a_step_that_needs_a_device_asks_kubernetes_for_one():
    limits = GPU_OP_TAGS["dagster-k8s/config"]["container_config"]["resources"]["limits"]
    assert limits == {"nvidia.com/gpu": "1"}
    sliced = gpu_op_tags("nvidia.com/mig-1g.18gb")["dagster-k8s/config"]["container_config"]["resources"]["limits"]
    assert sliced == {"nvidia.com/mig-1g.18gb": "1"}
    assert "resources" not in gpu_op_tags("none")["dagster-k8s/config"]["container_config"]


@pytest.mark.parametrize("gpu", ["nvidia.com/gpu", "nvidia.com/mig-1g.18gb", "none"])
def test_kubernetes_would_understand_the_tags(gpu):
    container_context = pytest.importorskip("dagster_k8s.job")

    @dg.op(tags=gpu_op_tags(gpu), pool=DEVICE_POOL)
    def step() -> None: ...

    config = container_context.get_user_defined_k8s_config(step.tags)
    assert config.pod_spec_config["volumes"][0]["name"] == "dshm"
    assert config.container_config["volume_mounts"][0]["mount_path"] == "/dev/shm"


def test_media_for_people(home):
    frames = np.zeros((8, 64, 64, 3), np.uint8)
    media = MediaResource()
    mp4 = media.encode(frames, 8)
    assert media.preview(frames, 8, "black").md_str.startswith("![black](data:image/webp;base64,")
    notebook = media.notebook("batch/1", "Batch 1", [("black", mp4)])
    assert Path(notebook.path) == home / "media" / "batch" / "1.ipynb"
    assert Path(notebook.path).read_bytes().startswith(b"{")
    assert [path.name for path in (home / "media" / "batch").iterdir()] == ["1.ipynb"]


def test_a_code_location_pays_for_nothing_heavy():
    script = (
        "import sys, resources.registry, resources.artifacts, resources.store, resources.engines, resources.media,"
        " resources.gpu\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'mlflow', 'onnxruntime', 'openvino', 'tensorrt', 'av', 'scipy',"
        " 'aerospike', 'numpy', 'pynvml', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_they_stand_in_definitions_together():
    dg.Definitions(resources=ALL).resolve_all_job_defs()


def test_a_registry_of_its_own_links_to_its_own_server_and_not_to_the_local_one(monkeypatch, tmp_path):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path))
    registry = RegistryResource(tracking_uri="http://mlflow:5000").registry()
    assert (registry.ui, registry.artifact_root) == (None, None)
