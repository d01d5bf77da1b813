import warnings

import numpy as np
import pytest
import scipy.linalg

from videogen.errors import QualityError
from videogen.quality.frechet import frechet, frechet_from_moments, moments


def draw(n: int, d: int = 12, seed: int = 0, shift: float = 0.0) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(n, d)) @ np.random.default_rng(99).normal(size=(d, d)) + shift


def by_matrix_root(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook form, through SciPy's square root of a general matrix."""
    first, second = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = scipy.linalg.sqrtm(first @ second).real
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root))


def test_it_agrees_with_the_textbook_form():
    x, y = draw(200), draw(150, seed=1, shift=0.5)
    assert frechet(x, y) == pytest.approx(by_matrix_root(x, y), rel=1e-6)


def test_two_known_gaussians():
    # In one dimension: (m1 - m2)^2 + (s1 - s2)^2.
    x = np.array([[-1.0], [1.0]]) / np.sqrt(2) * 3 + 1  # mean 1, deviation 3
    y = np.array([[-1.0], [1.0]]) / np.sqrt(2) * 5 + 4  # mean 4, deviation 5
    assert frechet(x, y) == pytest.approx(9 + 4)


@pytest.mark.parametrize("n", [5, 11])
def test_both_forms_agree_where_covariances_are_singular(n: int):
    x, y = draw(n), draw(n, seed=1, shift=0.3)
    assert frechet(x, y) == pytest.approx(frechet_from_moments(moments(x), moments(y)), rel=1e-5)


@pytest.mark.parametrize("n", [6, 300])
def test_a_set_is_no_distance_from_itself(n: int):
    assert frechet(draw(n), draw(n)) == pytest.approx(0.0, abs=1e-6)


def test_moments_of_parts_merge_to_those_of_the_whole():
    x = draw(101) + 1e4  # far from the origin, where plain sums of squares lose their digits
    merged = moments(x[:7]).merge(moments(x[7:50])).merge(moments(x[50:]))
    assert merged.count == 101
    np.testing.assert_allclose(merged.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(merged.covariance, np.cov(x, rowvar=False), rtol=1e-8)


def test_small_samples_of_one_distribution_are_far_apart():
    # Why a Fréchet distance never gates alone: the bias falls only as 1/n.
    few, many = (frechet(draw(n, 40, 1), draw(n, 40, 2)) for n in (16, 1600))
    assert few > 10 * many > 0


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((1, 3)), np.zeros((5, 3)), "n at least 2"),
        (np.zeros((5, 3)), np.zeros((5, 4)), "cannot be compared"),
        (np.array([[1.0, np.nan], [0, 0]]), np.zeros((2, 2)), "1 of 2 are not finite"),
    ],
)
def test_features_that_make_no_sense_are_refused(x: np.ndarray, y: np.ndarray, said: str):
    with pytest.raises(QualityError) as caught:
        frechet(x, y)
    assert said in str(caught.value)
