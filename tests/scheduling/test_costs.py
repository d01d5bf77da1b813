"""T(B) between and beyond what was measured, and its correction."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videogen.scheduling.costs import BUSY_NEAR, NEAR, Affine, Corrected, Profiled, Table, batch_that_pays
from videogen.scheduling.job import Job
from videogen.scheduling.scheduler import Scheduler


def test_a_profile_is_read_between_and_beyond_its_points():
    costs = Profiled({"x": Table({(1, 1): 1.0, (4, 1): 2.5, (8, 1): 4.0}, {(1, 1): 0.1})})
    assert costs.step("x", 1, 1) == 1.0
    assert costs.step("x", 2, 1) == 1.5
    assert costs.step("x", 16, 1) == 8.0
    assert costs.step("x", 4, 2) == 5.0
    assert costs.rest("x", 3, 1) == pytest.approx(0.3)
    assert costs.batch_max("x") == 8
    with pytest.raises(KeyError):
        costs.step("y", 1, 1)


@given(st.integers(1, 40), st.lists(st.floats(0.001, 1), min_size=1, max_size=16))
def test_the_batch_that_pays_is_near_the_best(waiting, seconds):
    costs = Profiled({"x": Table({(size, 1): each for size, each in enumerate(seconds, 1)})})
    chosen = batch_that_pays(costs, "x", waiting, steps=4, most=len(seconds))
    sizes = range(1, min(waiting, len(seconds)) + 1)
    assert chosen / costs.step("x", chosen, 1) >= max(size / costs.step("x", size, 1) for size in sizes) / NEAR


@pytest.mark.parametrize(
    ("steps", "rest_2", "pays"),
    [(1, 0.060, 1), (1, 0.030, 2), (50, 0.060, 2)],
    ids=["dear", "shared", "of little weight"],
)
def test_what_a_job_needs_beside_its_steps_counts(steps, rest_2, pays):
    costs = Profiled({"x": Table({(1, 1): 0.010, (2, 1): 0.012}, {(1, 1): 0.020, (2, 1): rest_2})})
    assert batch_that_pays(costs, "x", 8, steps=steps, most=2) == pays
    made = Scheduler(costs)
    for number in range(8):
        made.add(Job(str(number), "x", steps), 0.0)
    assert len(made.next(0.0).jobs) == pays


def test_what_one_call_for_steps_and_decoding_takes_changes_no_batch():
    """It is observed as longer steps and less of the rest."""
    costs = Profiled({"x": Table({(1, 1): 0.010, (2, 1): 0.018}, {(1, 1): 0.010, (2, 1): 0.018})})
    made = Scheduler(costs)
    for _ in range(20):
        made.costs.observe("x", 2, 1, 0.030)
        made.costs.observe("x", 1, 1, 0.010)
    for number in range(8):
        made.add(Job(str(number), "x", 2), 0.0)
    assert len(made.next(0.0).jobs) == 2


def test_steps_that_take_longer_are_believed_soon_and_one_stall_is_not():
    costs, noise = Corrected(Affine(0.04, 0.005)), random.Random(1)
    for _ in range(50):
        costs.observe("x", 4, 1, 0.09 * noise.uniform(0.9, 1.1))
    assert costs.step("x", 4, 1) == pytest.approx(0.09, rel=0.1)
    assert costs.step("x", 8, 1) == pytest.approx(0.12, rel=0.1), "what was not seen follows its key"
    assert costs.step("y", 4, 1) == pytest.approx(0.06)
    before = costs.step("x", 4, 1)
    costs.observe("x", 4, 1, 60.0)
    assert costs.step("x", 4, 1) <= 1.11 * before


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=200))
def test_a_correction_is_bounded_whatever_is_observed(seconds):
    costs = Corrected(Affine(0.04, 0.005), bound=4.0)
    for each in seconds:
        costs.observe("x", 1, 1, each)
    assert 0.25 <= costs.factor("x", 1, 1) <= 4.0


def test_what_is_no_longer_served_is_forgotten():
    costs = Corrected(Affine(0.04, 0.005))
    costs.observe("x", 1, 1, 0.09)
    costs.forget("x")
    assert costs.factor("x", 1, 1) == 1.0


def test_a_key_that_is_served_again_gets_the_batch_that_pays_by_its_new_table():
    tables = {"x": Table({(1, 1): 0.010, (2, 1): 0.020})}
    made = Scheduler(Profiled(tables))

    def batch() -> int:
        for number in range(4):
            made.add(Job(str(number), "x", 2), 0.0)
        size = len((run := made.next(0.0)).jobs)
        made.failed(run)
        for number in range(4):
            made.cancel(str(number))
        return size

    assert batch() == 1
    made.forget("x")
    tables["x"] = Table({(1, 1): 0.010, (2, 1): 0.011})
    assert batch() == 2


def test_what_was_measured_beside_other_work_tells_no_small_difference():
    step = {(1, 1): 0.0100, (2, 1): 0.0196}
    assert batch_that_pays(Profiled({"x": Table(step)}), "x", 8, steps=4, most=2) == 2
    assert batch_that_pays(Profiled({"x": Table(step, near=BUSY_NEAR)}), "x", 8, steps=4, most=2) == 1
    clear = Table({(1, 1): 0.0100, (2, 1): 0.0120}, near=BUSY_NEAR)
    assert batch_that_pays(Profiled({"x": clear}), "x", 8, steps=4, most=2) == 2


def test_a_graph_that_decodes_as_well_is_not_counted_twice():
    """4 steps of 10 ms and 20 ms of decoding in one call of 60 ms, then 5 ms for the MP4."""
    costs = Corrected(Profiled({"x": Table({(1, 1): 0.010}, {(1, 1): 0.025})}))
    assert 4 * costs.step("x", 1, 1) + costs.rest("x", 1, 1) == pytest.approx(0.065)
    for _ in range(30):
        costs.observe("x", 1, 1, 0.060 / 4)
        costs.observe_rest("x", 1, 1, 0.005)
    assert 4 * costs.step("x", 1, 1) + costs.rest("x", 1, 1) == pytest.approx(0.065, rel=0.05)
    costs.forget("x")
    assert costs.rest("x", 1, 1) == 0.025
