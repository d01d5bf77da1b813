"""The last minute of a replica, under a clock that the test moves."""

import dataclasses

import pytest

from tests.serving.test_metrics import ended, submitted
from videogen.serving.telemetry.observing import Load
from videogen.serving.telemetry.overview import WINDOW_S, Overview, quantile


class Hands:
    now = 1000.0

    def __call__(self):
        return self.now


def test_what_is_older_than_a_minute_is_left_out():
    clock = Hands()
    seen = Overview(clock)
    for cache in ("hit", "miss", "miss"):
        seen.submitted(submitted(cache=cache))
    seen.ended(ended())
    seen.refused("overloaded")
    seen.stepped(4, 7, 0.05)
    clock.now += WINDOW_S - 1
    seen.submitted(submitted(cache="joined"))
    seen.ended(ended(outcome="failed"))
    found = seen.as_plain()
    assert found["last_minute"]["accepted"] == {"hit": 1, "miss": 2, "joined": 1}
    assert found["last_minute"]["ended"] == {"completed": 1, "failed": 1}
    assert found["last_minute"]["refused"] == {"overloaded": 1} and found["last_minute"]["batches"] == {"4": 7}
    assert found["seconds"]["interactive"]["p50"] == pytest.approx(0.6)
    clock.now += 2
    later = seen.as_plain()
    assert later["last_minute"]["accepted"] == {"joined": 1} and later["seconds"] == {}
    assert later["last_minute"]["batches"] == {} and later["up_s"] == 61


def test_times_are_by_class_and_only_of_what_was_made():
    seen = Overview()
    for number in range(1, 101):
        seen.ended(ended(ended_at=100.0 + number))
    seen.ended(dataclasses.replace(ended(ended_at=100.25), priority="batch"))
    seen.ended(ended(outcome="cancelled", ended_at=5000.0))
    found = seen.as_plain()["seconds"]
    assert found == {"batch": {"p50": 0.25, "p95": 0.25}, "interactive": {"p50": 50.0, "p95": 95.0}}


def test_the_engine_and_the_swaps_are_as_they_were_told():
    seen = Overview()
    seen.loaded(Load({"batch": 3}, 2, 1.25, (0.5,), ready=True))
    seen.restarted()
    seen.swapped(True, 6.0, 6.0)
    seen.swapped(False, 1.0, 0.25)
    found = seen.as_plain()
    assert found["engine"] == {
        "ready": True,
        "waiting": {"batch": 3},
        "running": 2,
        "work_s": 1.25,
        "busy": [0.5],
        "restarts": 1,
    }
    assert found["swaps"] == {"succeeded": 1, "failed": 1, "last_s": 1.0, "last_longest_gap_s": 0.25}


def test_quantiles_are_values_that_were_seen():
    assert quantile([], 0.5) is None and quantile([7.0], 0.95) == 7.0
    assert quantile([4, 1, 3, 2], 0.5) == 2 and quantile([4, 1, 3, 2], 0.75) == 3
