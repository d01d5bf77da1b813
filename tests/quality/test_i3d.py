import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest

from videogen.artifacts import Artifacts
from videogen.errors import InvalidFrames, MetricUnavailable
from videogen.quality import i3d_weights
from videogen.quality.i3d import I3D, load_i3d, logits, prepare
from videogen.quality.i3d_fast import fast_logits
from videogen.quality.i3d_weights import convert, fold, read_arrays


@pytest.fixture(scope="module")
def network(artifacts: Artifacts) -> I3D:
    import torch

    torch.set_num_threads(1)
    return load_i3d(i3d_weights.i3d_weights(artifacts))


def clip(frames: int, value: int, side: int = 64) -> np.ndarray:
    return np.full((frames, side, side, 3), value, np.uint8)


@pytest.mark.parametrize(
    ("frames", "published", "tolerance"),
    [
        pytest.param(30, 151.39244, 1e-5, marks=pytest.mark.slow, id="TensorFlow original, 30 frames"),
        pytest.param(10, 569.23, 2e-3, id="TorchScript, 10 frames"),
    ],
)
def test_zeros_and_ones_are_as_far_apart_as_published(network: I3D, frames: int, published: float, tolerance: float):
    # Both sets are one video over and over, so the distance is that of the means. Numbers: README of
    # JunyaoHu/common_metrics_on_video_quality, FVD of 8 videos of zeros and 8 of ones at 64x64.
    zeros, ones = logits(network, [clip(frames, 0), clip(frames, 255)])
    assert ((zeros - ones) ** 2).sum() == pytest.approx(published, rel=tolerance)


@pytest.mark.slow
def test_openvino_gives_the_same_features_as_pytorch_in_a_batch(network: I3D, artifacts: Artifacts):
    clips = list(np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32, 3), dtype=np.uint8))
    together = logits(network, clips, batch=2)
    assert together.shape == (2, 400)
    np.testing.assert_allclose(fast_logits(artifacts, clips), together, atol=1e-3)


def test_the_input_spans_minus_one_to_one():
    tensor = prepare(np.stack([clip(9, 0), clip(9, 255)]))
    assert tensor.shape == (2, 3, 9, 224, 224)
    assert tensor[0].unique().tolist() == [-1]
    assert tensor[1].min() == pytest.approx(1) == tensor[1].max()


def test_clips_the_network_cannot_take_are_refused():
    with pytest.raises(InvalidFrames, match="at least 9"):
        logits(I3D(), [clip(8, 0)])
    with pytest.raises(InvalidFrames, match="clip 1 has shape"):
        logits(I3D(), [clip(9, 0), clip(10, 0)])


class _Nasty:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("false",)


def test_a_pickle_of_anything_but_arrays_is_refused():
    arrays = {"params": {"a": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}}
    old_name = pickle.dumps(arrays, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    np.testing.assert_array_equal(read_arrays(old_name)["params"]["a"]["kernel"], arrays["params"]["a"]["kernel"])
    with pytest.raises(MetricUnavailable, match="only NumPy arrays"):
        read_arrays(pickle.dumps(_Nasty()))


def test_folding_equals_normalising():
    generator = np.random.default_rng(0)
    kernel, bias = generator.normal(size=(1, 1, 1, 3, 2)), generator.normal(size=2)
    mean, var = generator.normal(size=(1, 1, 1, 1, 2)), generator.uniform(0.1, 2, (1, 1, 1, 1, 2))
    checkpoint = {
        "params": {"Mixed/Unit": {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": bias}}},
        "batch_stats": {"Mixed/Unit": {"BatchNorm_0": {"mean": mean, "var": var}}},
    }
    folded = fold(checkpoint)
    x = generator.normal(size=3)
    expected = (x @ kernel[0, 0, 0] - mean.reshape(2)) / np.sqrt(var.reshape(2) + 1e-3) + bias
    found = folded["Mixed.Unit.weight"][:, :, 0, 0, 0] @ x + folded["Mixed.Unit.bias"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_an_archive_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    false = tmp_path / "false.tar.gz"
    false.write_bytes(b"not it")
    monkeypatch.setenv("VIDEOGEN_I3D_ARCHIVE", str(false))
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    with pytest.raises(MetricUnavailable, match="not the published one"):
        i3d_weights.i3d_weights(artifacts)
    assert not artifacts.has(i3d_weights.KIND, i3d_weights.KEY)


def test_a_false_checkpoint_in_an_archive_is_refused(tmp_path: Path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        data = pickle.dumps(_Nasty())
        member = tarfile.TarInfo(i3d_weights.MEMBER)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    with pytest.raises(MetricUnavailable, match="not the published one"):
        convert(buffer.getvalue(), tmp_path)


def test_without_the_weights_the_error_says_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VIDEOGEN_I3D_ARCHIVE", raising=False)
    with pytest.raises(MetricUnavailable, match=r"python -m videogen\.quality\.i3d_weights"):
        i3d_weights.i3d_weights(Artifacts(str(tmp_path)))
