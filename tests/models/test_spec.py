import json

import pytest

from videogen.errors import ArtifactCorrupt, ArtifactMissing
from videogen.models.spec import ModelSpec, read_spec, write_spec


def test_a_spec_survives_its_file(tmp_path):
    spec = ModelSpec("videogen-tiny", num_inference_steps=4, guidance_scale=1.0, frames=(16, 32))
    write_spec(tmp_path, spec)
    assert read_spec(tmp_path) == spec


def test_plain_wan_folder_gives_sizes_that_its_autoencoder_can_code(wan_folder):
    spec = read_spec(wan_folder)
    assert spec.family == "wan" and spec.sigma_schedule == "scheduler"
    assert all(frames % 4 == 1 for frames in spec.frames) and spec.num_frames in spec.frames
    assert all(size % 16 == 0 for size in (*spec.widths, *spec.heights))


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"colour": 1}, "colour"), ({"width": "64"}, "width"), ({"frames": []}, "frames"), ({"fps": 0}, "fps"),
     ({"sigma_schedule": "odd"}, "sigma_schedule"), ({"width": True}, "width")],
)  # fmt: skip
def test_a_bad_field_is_named(tmp_path, changed, named):
    (tmp_path / "videogen.json").write_text(json.dumps({"name": "x"} | changed))
    with pytest.raises(ArtifactCorrupt, match=named):
        read_spec(tmp_path)


def test_no_model_and_no_json(tmp_path):
    with pytest.raises(ArtifactMissing, match=r"model_index\.json"):
        read_spec(tmp_path)
    (tmp_path / "videogen.json").write_text("{")
    with pytest.raises(ArtifactCorrupt, match=r"videogen\.json"):
        read_spec(tmp_path)
