from pathlib import Path

import numpy as np
import pytest

from training.reference_features import reference_clips
from videogen.artifacts import Artifacts
from videogen.errors import MetricUnavailable
from videogen.evidence import FEATURE_CLIPS, REFERENCE_CLIPS
from videogen.quality.features import features
from videogen.quality.i3d_fast import fast_logits
from videogen.quality.known_features import clip_key, keep_features, known_features


@pytest.fixture(scope="module")
def reference() -> list[np.ndarray]:
    return reference_clips(8)


def test_the_reference_that_versions_are_compared_with_is_known(reference: list[np.ndarray]):
    # Another processor may round a pixel otherwise; such a clip is not known there, and costs its second.
    known = [clip_key(clip) in known_features() for clip in reference]
    assert len(known) == REFERENCE_CLIPS + FEATURE_CLIPS == len(known_features())
    assert sum(known) > len(known) / 2


def test_what_is_known_is_what_i3d_says(artifacts: Artifacts, reference: list[np.ndarray]):
    some = [clip for clip in (reference[0], reference[-1]) if clip_key(clip) in known_features()]
    for clip in some:
        np.testing.assert_allclose(known_features()[clip_key(clip)], fast_logits(artifacts, [clip])[0], atol=1e-3)


def test_known_clips_need_no_weights_and_one_unknown_clip_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: list[np.ndarray]
):
    monkeypatch.delenv("VIDEOGEN_I3D_ARCHIVE", raising=False)
    known = [clip for clip in reference if clip_key(clip) in known_features()][:2]
    assert features(Artifacts(str(tmp_path)), known).values.shape == (2, 400)
    changed = known[1].copy()
    changed[0, 0, 0, 0] ^= 1
    with pytest.raises(MetricUnavailable):
        features(Artifacts(str(tmp_path)), [known[0], changed])


def test_what_was_kept_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clips = list(np.random.default_rng(0).integers(0, 256, (2, 9, 8, 8, 3), dtype=np.uint8))
    logits = np.arange(800, dtype=np.float64).reshape(2, 400)
    keep_features(clips, logits, tmp_path / "known.safetensors")
    monkeypatch.setattr("videogen.quality.known_features.FILE", tmp_path / "known.safetensors")
    known_features.cache_clear()
    found = known_features()
    known_features.cache_clear()
    np.testing.assert_array_equal(found[clip_key(clips[1])], logits[1])
