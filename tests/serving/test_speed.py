"""What a device is taken to be able to make, whatever it has to do just now."""

import time

import pytest

from videogen.serving.engine.messages import Loaded
from videogen.serving.making.speed import Speed

STEP_S = {1: 0.045, 4: 0.06, 16: 0.12}


@pytest.fixture
def speed():
    speed = Speed()
    told = {str(batch): seconds for batch, seconds in STEP_S.items()}
    speed.learn(Loaded("digest", 1.0, 0, 0, "key", "fp32", "cpu", False, 16, 0.1, told), steps=4, streams=1)
    return speed


def made(speed: Speed, batches: dict[int, int], times: float = 1.0) -> float:
    spent = times * sum(steps * STEP_S[size] / size for size, steps in batches.items())
    for _ in range(200):
        speed.made({"device_seconds": spent, "batches": {str(size): steps for size, steps in batches.items()}})
    return speed.seconds_each


def test_a_device_with_little_to_do_is_no_slower_than_one_that_is_full(speed):
    full = 4 * 0.12 / 16
    assert speed.seconds_each == pytest.approx(full)
    assert made(speed, {16: 4}) == pytest.approx(full)
    assert made(speed, {1: 4}) == pytest.approx(full)
    assert made(speed, {1: 2, 4: 2}) == pytest.approx(full)


def test_longer_videos_and_slower_steps_take_longer(speed):
    full = 4 * 0.12 / 16
    assert made(speed, {4: 20}) == pytest.approx(5 * full)
    assert made(speed, {4: 4}, times=1.5) == pytest.approx(1.5 * full)


def test_a_video_without_steps_tells_nothing(speed):
    before = speed.seconds_each
    speed.made({"device_seconds": 1.0})
    speed.made({"device_seconds": 1.0, "batches": {}})
    assert speed.seconds_each == before


def test_what_publishing_takes_is_a_moving_average_that_one_outage_moves_little(speed):
    for _ in range(100):
        speed.published(0.02)
    assert speed.publish_s == pytest.approx(0.02, rel=0.01)
    speed.published(600.0)
    assert speed.publish_s < 0.15


def test_the_longest_gap_is_the_longest_time_without_a_step_since_then(speed, monkeypatch):
    clock = iter([3.0, 10.0, 11.0, 15.0, 17.0, 17.0, 17.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    for _ in range(4):  # at 3, 10, 11 and 15
        speed.stepped()
    assert speed.longest_gap(since=9.0) == 4.0
    assert speed.longest_gap(since=14.5) == 2.0
    assert speed.longest_gap(since=16.0) == 1.0
