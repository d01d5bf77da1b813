import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videogen.scheduling.ahead import likely_repeats
from videogen.scheduling.arrivals import poisson
from videogen.scheduling.forecast import HOUR_S, Forecast, at_least


def fed(times, key="k", **options):
    forecast = Forecast(**options)
    for time in times:
        forecast.arrived(key, time)
    return forecast


def test_the_rate_of_a_steady_stream_is_found():
    forecast = fed(poisson(20, 300, seed=1), memory_s=30)
    assert forecast.rate("k", 300) == pytest.approx(20, rel=0.15)
    assert forecast.gap("k", 300) == pytest.approx(1 / 20, rel=0.15)


def test_nothing_is_expected_of_a_key_that_came_once_or_never():
    forecast = fed([5.0])
    for key in ("k", "other"):
        assert forecast.rate(key, 6) == 0
        assert forecast.gap(key, 6) == math.inf
        assert forecast.probability(key, 1, 100, 6) == 0


def test_silence_lowers_the_rate():
    forecast = fed([number / 10 for number in range(100)], memory_s=10)
    assert forecast.rate("k", 10) > 5
    assert forecast.rate("k", 60) < 0.2


def test_of_many_keys_the_quietest_are_forgotten():
    forecast = Forecast(most=3)
    for time, key in enumerate("abacada"):
        forecast.arrived(key, time)
    assert len(forecast) == 3
    assert forecast.rate("b", 7) == 0 < forecast.rate("a", 7)


def test_the_hour_of_the_day_is_learned():
    busy = range(9, 17)
    times = [
        HOUR_S * (24 * day + hour) + second
        for day in range(12)
        for hour in range(24)
        for second in range(0, 3600, 10 if hour in busy else 60)
    ]
    forecast = fed(times, memory_s=600)
    factors = forecast._seen["k"].factors
    assert min(factors[hour] for hour in busy) > 3 * max(factors[hour] for hour in range(24) if hour not in busy)
    midnight = 12 * 24 * HOUR_S
    before, after = forecast.rate("k", midnight + 9 * HOUR_S - 1), forecast.rate("k", midnight + 9 * HOUR_S + 1)
    assert after > 3 * before


@given(st.lists(st.floats(-1e9, 1e9), max_size=30), st.floats(-1e9, 1e9))
def test_any_times_give_a_rate(times, now):
    forecast = fed(times)
    assert 0 <= forecast.rate("k", now) < math.inf
    assert 0 <= forecast.probability("k", 2, 1, now) <= 1


def test_the_probability_is_that_of_poisson():
    chance = random.Random(2)
    drawn = []
    for _ in range(20_000):
        total, count = chance.expovariate(1), 0
        while total < 2.5:
            total, count = total + chance.expovariate(1), count + 1
        drawn.append(count)
    for count in range(7):
        share = sum(one >= count for one in drawn) / len(drawn)
        assert at_least(count, 2.5) == pytest.approx(share, abs=0.02)


def test_repeats_are_made_only_when_idle_and_allowed():
    forecast = fed(range(20), key="again", memory_s=100)

    def plan(cached=(), idle=True, allowed=True):
        return likely_repeats(forecast, ["again", "never"], cached, 20, idle=idle, allowed=allowed)

    assert plan() == ["again"]
    assert plan(cached={"again"}) == plan(idle=False) == plan(allowed=False) == []
