import json
import shutil

import pytest
import torch

from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused, InvalidRequest
from videogen.models.loading import component_classes, latent_layout, load_networks, load_tokenizer
from videogen.models.tiny_autoencoder import TinyVideoAutoencoder


@pytest.fixture
def copied(tiny_folder, tmp_path):
    return shutil.copytree(tiny_folder, tmp_path / "model")


def change_index(folder, **entries):
    path = folder / "model_index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_every_component_is_of_its_named_class(tiny_folder, wan_folder):
    assert component_classes(tiny_folder)["vae"] == ("videogen", "TinyVideoAutoencoder")
    networks = load_networks(wan_folder)
    assert type(networks.vae).__name__ == "AutoencoderKLWan"
    assert type(networks.text_encoder).__name__ == "UMT5EncoderModel"
    assert not any(p.requires_grad or p.dtype != torch.float32 for p in networks.transformer.parameters())


def test_half_precision_on_disk_computes_in_float32(copied):
    load_networks(copied).transformer.half().save_pretrained(copied / "transformer")
    assert {p.dtype for p in load_networks(copied).transformer.parameters()} == {torch.float32}


def test_a_class_outside_the_list_is_refused_and_its_code_never_imported(copied):
    (copied / "evil.py").write_text("raise SystemExit('ran')")
    for entry in (["evil", "Evil"], ["diffusers", "UNet2DModel"], ["evil", "WanTransformer3DModel"]):
        change_index(copied, transformer=entry)
        with pytest.raises(ArtifactRefused, match=rf"{entry[0]}\.{entry[1]}.*allowed: diffusers"):
            load_networks(copied)


def test_a_missing_component_is_named(copied):
    shutil.rmtree(copied / "vae")
    with pytest.raises(ArtifactMissing, match="vae"):
        load_networks(copied)
    change_index(copied, vae=None)
    with pytest.raises(ArtifactMissing, match="names no vae"):
        component_classes(copied)


def test_two_transformers_are_refused_rather_than_half_used(copied):
    change_index(copied, transformer_2=["diffusers", "WanTransformer3DModel"])
    with pytest.raises(ArtifactRefused, match=r"Wan 2\.2"):
        component_classes(copied)


def test_a_pickle_is_refused(copied):
    weights = copied / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ArtifactRefused, match="pickle"):
        load_networks(copied)


def test_truncated_weights_are_corrupt(copied):
    weights = copied / "text_encoder" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ArtifactCorrupt, match="text_encoder"):
        load_networks(copied)


@pytest.mark.parametrize("change", [{"num_layers": 3}, {"ffn_dim": 128}])
def test_weights_of_another_config_are_corrupt_not_made_up(copied, change):
    path = copied / "transformer" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactCorrupt, match="transformer"):
        load_networks(copied)


def test_layouts(tiny_folder, wan_folder):
    tiny = latent_layout(tiny_folder)
    assert tiny.frames_per_latent == TinyVideoAutoencoder.frames_per_latent
    assert tiny.pixels_per_latent == TinyVideoAutoencoder.pixels_per_latent
    assert tiny.shape(16, 64, 64) == (8, 4, 8, 8)
    assert latent_layout(wan_folder).shape(9, 32, 48) == (16, 3, 4, 6)


def test_wan_prompts_are_cleaned_padded_and_never_cut(wan_folder):
    tokenizer = load_tokenizer(wan_folder)
    ids, mask = tokenizer(["a  red&amp;nbsp;ball", "a red ball"])
    assert ids.shape == (2, 512) and (ids[0] == ids[1]).all() and mask[0].sum() == 4
    with pytest.raises(InvalidRequest, match="at most 512 tokens, this has 601"):
        tokenizer(["a " * 600])
