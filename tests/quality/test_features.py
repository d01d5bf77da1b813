import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videogen.artifacts import Artifacts
from videogen.errors import MetricUnavailable, QualityError
from videogen.quality import features as module
from videogen.quality.features import FeatureSet, content_key, distances, features


def bank(n: int, seed: int = 0, shift: float = 0.0, frames: int = 16) -> FeatureSet:
    return FeatureSet(np.random.default_rng(seed).normal(size=(n, 20)) + shift, frames)


def clips(count: int = 2, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 9, 16, 16, 3), dtype=np.uint8))


def test_without_the_published_weights_there_is_no_fvd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("VIDEOGEN_I3D_ARCHIVE", raising=False)
    with pytest.raises(MetricUnavailable, match="without which there is no FVD"):
        features(Artifacts(str(tmp_path)), clips())
    assert not Artifacts(str(tmp_path)).has(module.KIND, content_key(clips()))


def test_features_are_taken_once_per_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taken: list[int] = []

    def extract(artifacts: Artifacts, given: list[np.ndarray], threads: int, fetch: bool) -> np.ndarray:
        taken.append(len(given))
        return np.stack([clip.reshape(-1)[:400].astype(np.float64) for clip in given])

    monkeypatch.setattr("videogen.quality.i3d_fast.fast_logits", extract)
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    first, again = features(artifacts, clips()), features(artifacts, clips())
    np.testing.assert_array_equal(first.values, again.values)
    assert (first.frames, len(first), taken) == (9, 2, [2])
    features(artifacts, clips(seed=1))
    assert taken == [2, 2]


def test_the_content_key_knows_values_order_and_shape():
    a, b = clips()
    keys = {content_key(given) for given in ([a, b], [b, a], [a], [a.reshape(9, 8, 32, 3), b])}
    assert len(keys) == 4


def test_names_carry_the_sample_size_until_it_is_that_of_papers():
    small = distances(bank(32), bank(32, 1))
    large = replace(small, n=2048)
    assert (small.fvd_name, small.comparable_to_papers) == ("fvd_i3d[n=32]", False)
    assert (large.fvd_name, large.comparable_to_papers) == ("fvd_i3d", True)
    assert {"fvd_i3d_n32", "kvd_i3d_n32", "kvd_i3d_n32_low", "kvd_i3d_n32_high"} <= set(small.metrics())
    assert "fvd_i3d" in large.metrics()


def test_as_many_clips_are_compared_on_both_sides():
    measured = distances(bank(80), bank(24, 1))
    assert measured.n == 24
    assert measured.fvd == distances(FeatureSet(bank(80).values[:24], 16), bank(24, 1)).fvd


def test_the_floor_is_what_sameness_looks_like():
    reference = bank(64)
    same, other = distances(reference, bank(32, 1)), distances(reference, bank(32, 1, shift=1.5))
    assert same.floor is not None
    assert same.floor.n == 32
    assert same.floor.kvd_low < 0 < same.floor.kvd_high
    assert same.fvd == pytest.approx(same.floor.fvd, rel=0.35)
    assert other.fvd > 2 * same.floor.fvd_high
    assert other.kvd.low > same.floor.kvd_high


def test_the_record_is_json_and_says_what_was_measured():
    record = json.loads(json.dumps(distances(bank(32), bank(32, 1)).record()))
    assert record["fvd_name"] == "fvd_i3d[n=32]"
    assert record["comparable_to_papers"] is False
    assert record["weights_sha256"].startswith("af5c50f0")
    assert record["kvd"].keys() == {"value", "low", "high"}
    assert record["frames"] == 16


def test_clips_of_different_lengths_are_not_compared():
    with pytest.raises(QualityError, match="16 and of 17 frames"):
        distances(bank(8), bank(8, frames=17))
