"""Buckets of one process: they empty and fill again as those in the store do, and take a bounded memory."""

import pytest

from tests.store.builders import Clock
from videogen.serving import buckets
from videogen.serving.buckets import Buckets
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimit, RateLimits

LIMIT = RateLimit(per_second=2.0, burst=3.0)


def test_they_decide_as_those_in_the_store_do():
    clock = Clock()
    here, in_store = Buckets(clock), RateLimits(MemoryRecordStore(clock))
    for pause in (0.0, 0.0, 0.0, 0.0, 0.4, 0.2, 0.0, 10.0, 0.0, 0.25):
        clock.pass_(pause)
        got, expected = here.take("one", LIMIT), in_store.take("one", LIMIT)
        assert got.allowed == expected.allowed
        assert got.remaining == pytest.approx(expected.remaining)
        assert got.retry_after_s == pytest.approx(expected.retry_after_s)
    assert here.take("another", LIMIT).remaining == 2.0
    assert here.take("one", RateLimit(2.0, 1.0)).remaining <= 1.0, "a changed limit holds at once"


def test_those_that_were_used_least_lately_are_forgotten(monkeypatch):
    monkeypatch.setattr(buckets, "MOST", 2)
    here = Buckets(Clock())
    for name in ("one", "another", "one", "a third"):
        here.take(name, LIMIT)
    assert here.take("one", LIMIT).remaining == 0.0
    assert here.take("another", LIMIT).remaining == 2.0
