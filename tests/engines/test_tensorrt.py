"""TensorRT-RTX builds real engines here, with no GPU; TensorRT needs one, and says so."""

import dataclasses
import importlib.util
from pathlib import Path

import pytest

from tests.fixtures.gpu import has_gpu
from videogen.engines.base import ShapeProfile, read_report
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine, ensure_graph, load_engine
from videogen.engines.tensorrt import PORTABLE, TensorRtBuilder, error_log, trt_module
from videogen.engines.tensorrt_run import deserialised
from videogen.errors import EngineBuildFailed, EngineUnavailable
from videogen.manifest import build_manifest

SHIPPED = Path(__file__).resolve().parents[2] / "models" / "videogen-tiny" / "2"


@pytest.fixture(scope="module")
def trt():
    return pytest.importorskip("tensorrt_rtx", reason="the extra tensorrt-rtx is not installed")


@pytest.fixture(scope="module")
def stored(trt, artifacts):
    """Of the model that ships."""
    return ensure_engine(artifacts, SHIPPED, build_manifest(SHIPPED).digest, builder_for("tensorrt-rtx"), "fp16")


@pytest.fixture(scope="module")
def graphs(artifacts, stored):
    """Those that it was built from."""
    found = ensure_graph(artifacts, SHIPPED, build_manifest(SHIPPED).digest, "fp16")
    assert not found.built
    return found


@pytest.mark.slow
def test_a_portable_engine_is_built_ahead_of_time(trt, stored):
    report = read_report(stored.path)
    assert (report.target, report.precision) == ("tensorrt-rtx", "fp16")
    assert report.architecture == "sm80+sm86+sm89+sm120" and trt.__version__ in report.builder_version
    assert report.profile == ShapeProfile(16, 64, 64, 1, 4, 16)
    for name, layers in report.layers.items():
        assert layers > 10
        plan = (stored.path / f"{name}.plan").read_bytes()
        assert len(plan) > 10_000, name
    assert report.layer_kinds["denoiser"]["matrix_multiply"] > 10


def test_its_parsed_network_is_typed_in_half_and_dynamic_in_the_batch(trt, graphs):
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR)).parse_from_file(str(graphs.path / "denoiser.onnx"))
    products = [
        layer for layer in map(network.get_layer, range(network.num_layers)) if layer.type.name == "MATRIX_MULTIPLY"
    ]
    halves = [layer for layer in products if layer.get_output(0).dtype == trt.float16]
    assert len(halves) > 0.8 * len(products)
    assert network.get_input(0).shape[0] == -1 and network.get_input(0).dtype == trt.float32


def test_batches_of_the_profile_reach_the_builder(trt, graphs, tmp_path):
    broken = ShapeProfile(16, 64, 64, batch_min=8, batch_opt=4, batch_max=16)
    with pytest.raises((EngineBuildFailed, ValueError)):
        TensorRtBuilder("tensorrt-rtx").build(graphs.path, tmp_path, broken, "fp16")


def test_a_graph_it_cannot_parse_is_a_build_failure_that_says_why(trt, tmp_path):
    from videogen.engines.graphs import Graphs

    (tmp_path / "denoiser.onnx").write_bytes(b"not onnx")
    profile = ShapeProfile(16, 64, 64)
    Graphs(("denoiser",), "fp16", profile, (), {"denoiser": {}}).write(tmp_path)
    with pytest.raises(EngineBuildFailed, match=r"cannot parse denoiser: .+"):
        TensorRtBuilder("tensorrt-rtx").build(tmp_path, tmp_path, profile, "fp16")


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_loading_without_a_gpu_says_so_at_once(stored, artifacts):
    with pytest.raises(EngineUnavailable, match="needs an NVIDIA GPU, and this machine has no NVIDIA driver"):
        load_engine(artifacts, stored.key.digest)


def test_an_engine_that_cannot_be_loaded_is_told_in_tensorrt_s_own_words(trt, tmp_path):
    log, plan = error_log(trt), tmp_path / "denoiser.plan"
    plan.write_bytes(b"no engine")
    with pytest.raises(EngineUnavailable, match=r"denoiser\.plan: TensorRT cannot load it on this GPU: .*Error Code"):
        deserialised(trt.Runtime(log), plan, "this GPU", log.errors)


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
def test_tensorrt_without_its_package_or_a_gpu_says_what_is_missing():
    missing = "architecture" if importlib.util.find_spec("tensorrt") else "version"
    with pytest.raises(EngineUnavailable, match=r"tensorrt is not installed|NVIDIA GPU"):
        getattr(builder_for("tensorrt"), missing)()


def test_every_portable_target_exists_and_hopper_does_not(trt):
    assert all(hasattr(trt.ComputeCapability, name) for name in PORTABLE)
    assert not hasattr(trt.ComputeCapability, "SM90")
    assert trt_module("tensorrt-rtx") is trt


def test_profiles_are_part_of_the_key(stored):
    other = dataclasses.replace(stored.key, profile=ShapeProfile(16, 64, 64, 1, 8, 16))
    assert other.digest != stored.key.digest
