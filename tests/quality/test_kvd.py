import itertools

import numpy as np
import pytest

from videogen.errors import QualityError
from videogen.quality.kvd import kvd, kvd_difference, kvd_interval


def draw(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 8)) + shift


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """Averages over pairs of different clips, one pair at a time."""

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    within = sum(np.mean([k(a, b) for a, b in itertools.permutations(s, 2)]) for s in (x, y))
    return float(within - 2 * np.mean([k(a, b) for a, b in itertools.product(x, y)]))


def test_it_agrees_with_the_definition():
    x, y = draw(13, 0), draw(9, 1, shift=0.4)
    assert kvd(x, y) == pytest.approx(by_definition(x, y), rel=1e-9)


def test_it_is_unbiased_at_any_sample_size():
    values = [kvd(draw(8, 2 * seed), draw(8, 2 * seed + 1)) for seed in range(400)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0 < max(values)


def test_it_grows_with_the_difference():
    reference = draw(64, 0)
    values = [kvd(reference, draw(64, 1, shift)) for shift in (0.0, 0.3, 0.6, 1.2)]
    assert values == sorted(values)


def test_the_interval_holds_zero_for_one_distribution_and_not_for_two():
    same = [kvd_interval(draw(32, 2 * s), draw(32, 2 * s + 1), resamples=200) for s in range(60)]
    assert sum(e.low <= 0 <= e.high for e in same) >= 54
    different = kvd_interval(draw(32, 0), draw(32, 1, shift=1.0))
    assert 0 < different.low < different.value < different.high


def test_the_interval_narrows_with_more_clips_and_repeats_with_its_seed():
    small, large = (kvd_interval(draw(n, 0), draw(n, 1, shift=0.5)) for n in (16, 256))
    assert large.high - large.low < small.high - small.low
    assert kvd_interval(draw(16, 0), draw(16, 1), seed=5) == kvd_interval(draw(16, 0), draw(16, 1), seed=5)


def test_pairs_cancel_what_they_share():
    reference, champion = draw(64, 0), draw(64, 1, shift=0.4)
    nearly_equal = kvd_difference(reference, champion, champion + 0.001)
    unpaired = kvd_interval(reference, champion)
    assert nearly_equal.high - nearly_equal.low < (unpaired.high - unpaired.low) / 10
    worse = kvd_difference(reference, champion, draw(64, 2, shift=1.2))
    assert worse.low > 0


def test_what_is_not_paired_is_refused():
    with pytest.raises(QualityError, match="not pairs"):
        kvd_difference(draw(8, 0), draw(8, 1), draw(7, 2))
    with pytest.raises(QualityError, match="cannot be compared"):
        kvd(draw(8, 0), draw(8, 1)[:, :4])
