import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from deploy.local.damage import damage
from videogen.manifest import build_manifest


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "transformer").mkdir(parents=True)
    rng = np.random.default_rng(1)
    tensors = {
        f"blocks.{n}.{part}.to_v.weight": rng.normal(size=(8, 6)).astype(np.float16)
        for n in (0, 1)
        for part in ("attn1", "attn2")
    }
    save_file(tensors, folder / "transformer" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    (folder / "model_index.json").write_text("{}")
    (folder / "manifest.json").write_text("of the healthy one")
    return folder


def weights(folder):
    return load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")


def test_only_what_text_says_is_shuffled_and_nothing_changes_its_shape(model, tmp_path):
    healthy, damaged = weights(model), weights(damage(model, tmp_path / "damaged"))
    assert healthy.keys() == damaged.keys()
    for name, tensor in healthy.items():
        assert damaged[name].shape == tensor.shape and damaged[name].dtype == tensor.dtype
        assert np.array_equal(damaged[name], tensor) == ("attn1" in name)
        assert np.array_equal(np.sort(damaged[name], axis=0), np.sort(tensor, axis=0))
    assert not (tmp_path / "damaged" / "manifest.json").exists()


def test_the_same_seed_gives_the_same_version(model, tmp_path):
    first, again = damage(model, tmp_path / "first"), damage(model, tmp_path / "again")
    assert build_manifest(first).digest == build_manifest(again).digest != build_manifest(model).digest
    assert build_manifest(damage(model, tmp_path / "again", seed=1)).digest != build_manifest(first).digest


def test_a_model_without_such_weights_is_not_passed_off_as_damaged(model, tmp_path):
    (model / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ValueError, match="no cross-attention weights"):
        damage(model, tmp_path / "damaged")
