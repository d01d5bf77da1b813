import pytest

from videogen.loads.answers import Answer
from videogen.loads.measured import Measured, Taken, percentile_curve


def measured(*times, late=0.0, **outcomes):
    taken = [Taken(number / 10, "all", False, late, took, Answer("answered")) for number, took in enumerate(times)]
    for outcome, count in outcomes.items():
        taken += [Taken(9.0, "all", False, late, 0.01, Answer(outcome, f"why {outcome}")) for _ in range(count)]
    return Measured(0.0, taken, seconds=10.0)


def test_percentiles_are_of_answers_and_goodput_of_all():
    found = measured(*(number / 100 for number in range(1, 101)), refused=20, failed=5).summary(0.5)
    assert (found.sent, found.answered, found.refused, found.failed) == (125, 100, 20, 5)
    assert found.latency == {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
    assert (found.good, found.goodput, found.throughput) == (50, pytest.approx(5.0), pytest.approx(10.0))


def test_the_error_budget_is_spent_by_what_is_late_refused_or_failed():
    run = measured(*[0.1] * 96, 0.9, 0.9, refused=1, failed=1)
    assert run.budget_spent(0.5, 0.96) == pytest.approx(1.0)
    assert run.budget_spent(0.5, 0.98) == pytest.approx(2.0)
    assert run.reasons == [("why refused", 1), ("why failed", 1)]


def test_nothing_answered_has_no_percentiles():
    assert measured(failed=3).summary(0.5).latency == dict.fromkeys(("p50", "p90", "p95", "p99", "max"))
    assert percentile_curve([]) == []


def test_a_generator_that_could_not_keep_up_is_in_doubt():
    assert measured(0.1).doubt is None
    assert "50 ms after it was due, 50% of the answers' p99" in (measured(0.1, late=0.05).doubt or "")
    assert measured(0.6, late=0.05).doubt is None  # less than a tenth of what is measured
    assert "50 ms" in (measured(failed=1, late=0.05).doubt or "")
    busy = measured(0.1)
    busy.cpu_s = 9.0
    assert "90%" in (busy.doubt or "")


def test_the_curve_runs_from_the_median_to_the_slowest_over_nines():
    curve = percentile_curve(number / 1000 for number in range(1, 1001))
    assert curve[-1] == (pytest.approx(3.0), 1000.0)
    assert min(curve, key=lambda point: abs(point[0] - 1.0))[1] == pytest.approx(900, abs=20)
    assert [ms for _, ms in curve] == sorted(ms for _, ms in curve)
