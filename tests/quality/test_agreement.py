"""Agreement against counting by hand; the interval against the equation that defines it and by simulation."""

import dataclasses
import math

import numpy as np
import pytest

from videogen.errors import QualityError
from videogen.quality.agreement import agreement, pair, wilson
from videogen.quality.oracle import Verdict
from videogen.world.grammar import FIELDS, Attributes

WANTED = Attributes("small", "red", "ring", "up", "black")
RIGHT = Verdict("small", "red", "ring", "up", "black")


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (1, 3), (45, 64), (499, 512)])
def test_the_limits_solve_the_score_equation(right: int, n: int) -> None:
    found = wilson(right, n)
    for limit in (found.low, found.high):
        if 0 < limit < 1:
            assert abs(right / n - limit) / math.sqrt(limit * (1 - limit) / n) == pytest.approx(1.959964, rel=1e-6)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize("share", [0.35, 0.8, 0.97])
def test_the_interval_holds_the_truth_as_often_as_it_says(share: float) -> None:
    drawn = np.random.default_rng(0).binomial(64, share, 4000)
    held = np.mean([wilson(int(r), 64).low <= share <= wilson(int(r), 64).high for r in drawn])
    assert 0.925 <= held <= 0.985


@pytest.mark.parametrize(("right", "n"), [(0, 0), (3, 2), (-1, 4)])
def test_what_is_no_share_is_refused(right: int, n: int) -> None:
    with pytest.raises(QualityError):
        wilson(right, n)


def test_shares_are_counted_per_attribute_and_jointly() -> None:
    wrong_shape = dataclasses.replace(RIGHT, shape="circle")
    unclear = dataclasses.replace(RIGHT, shape=None, size=None)
    found = agreement([(WANTED, RIGHT), (WANTED, wrong_shape), (WANTED, unclear), (WANTED, RIGHT)])
    assert found.n == 4 and found.hits == [True, False, False, True]
    assert {name: share.right for name, share in found.shares().items()} == {
        "size": 3, "colour": 4, "shape": 2, "motion": 4, "background": 4, "joint": 2,
    }  # fmt: skip


def test_the_table_says_what_is_wrong() -> None:
    found = agreement([(WANTED, dataclasses.replace(RIGHT, shape="circle", motion=None))])
    assert found.rows() == [{
        "size": "small", "colour": "red", "shape": "ring, got circle", "motion": "up, got nothing clear",
        "background": "black", "agrees": False,
    }]  # fmt: skip


def test_a_clip_that_failed_agrees_in_nothing() -> None:
    found = agreement([pair(dataclasses.asdict(WANTED), {})])
    assert found.joint.right == 0 and all(found.fields[field].right == 0 for field in FIELDS)


def test_no_clips_have_no_agreement() -> None:
    with pytest.raises(QualityError):
        agreement([])
