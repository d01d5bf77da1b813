import math
import multiprocessing
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.builders import Clock
from videogen.errors import InvalidRequest, StoreConflict
from videogen.store import contention
from videogen.store.backends.catalog import open_records
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import Set, Write
from videogen.store.rate_limits import RateLimit, RateLimits

TWO_A_SECOND = RateLimit(per_second=2, burst=10)
TWENTY_AND_NO_MORE = RateLimit(per_second=0.001, burst=20)


@pytest.fixture
def buckets(plain):
    return RateLimits(plain)


class Interrupted(MemoryRecordStore):
    """Lets something happen after a read and before whatever its reader does next."""

    between: Callable[[], object] | None = None

    def read_many(self, kind, keys, aged=False):
        found, (between, self.between) = super().read_many(kind, keys, aged), (self.between, None)
        if between is not None:
            between()
        return found


class Rewound(MemoryRecordStore):
    """Says of a record from the future what Redis says after its clock was set back."""

    def read_many(self, kind, keys, aged=False):
        found = super().read_many(kind, keys, aged)
        return [record and (replace(record, age=math.inf) if record.age < 0 else record) for record in found]


def test_a_bucket_is_full_at_first_and_empties(buckets):
    found = [buckets.take("a", TWO_A_SECOND, tokens) for tokens in (1, 6.5, 2.5, 1)]
    assert [one.allowed for one in found] == [True, True, True, False]
    assert [one.remaining for one in found] == [9, 2.5, 0, 0]
    assert [one.retry_after_s for one in found] == [0, 0, 0, pytest.approx(0.5, abs=0.01)]
    assert buckets.take("b", TWO_A_SECOND).remaining == 9


def test_tokens_flow_back_until_the_bucket_is_full(buckets, clock):
    buckets.take("a", TWO_A_SECOND, 10)
    clock.pass_(2)
    assert buckets.take("a", TWO_A_SECOND, 1).remaining == 3
    clock.pass_(1000)
    assert buckets.take("a", TWO_A_SECOND, 1).remaining == 9


def test_a_refused_take_takes_nothing_writes_nothing_and_puts_nothing_off(buckets, plain, clock):
    buckets.take("a", TWO_A_SECOND, 10)
    refused = []
    for _ in range(19):
        clock.pass_(0.25)
        refused.append(buckets.take("a", TWO_A_SECOND, 10))
    assert not any(one.allowed for one in refused) and refused[-1].remaining == 9.5
    ((kind, key),) = plain._records
    assert plain.read(kind, key, aged=True).age == 19 * 0.25
    clock.pass_(0.25)
    assert buckets.take("a", TWO_A_SECOND, 10).allowed


def test_a_bucket_that_is_full_again_costs_nothing_and_none_expires_before(buckets, plain, clock):
    buckets.take("a", TWO_A_SECOND, 10)
    clock.pass_(4.9)
    assert plain.purge() == 0 and not buckets.take("a", TWO_A_SECOND, 10).allowed
    clock.pass_(2)
    assert plain.purge() == 1


def test_a_changed_limit_holds_at_once(buckets, clock):
    buckets.take("a", TWO_A_SECOND, 10)
    assert buckets.take("a", RateLimit(2, burst=15)).remaining == 4
    narrow = RateLimit(per_second=1, burst=3)
    assert buckets.take("a", narrow, 3).retry_after_s == pytest.approx(3, abs=0.01)
    clock.pass_(3.1)
    assert buckets.take("a", narrow, 3).allowed


def test_a_name_may_be_a_secret_and_any_text(buckets, plain):
    for name in ("sk-123", "", "ü/\0{}", "\ud800", "x" * 100_000):
        assert buckets.take(name, TWO_A_SECOND).remaining == 9
        assert plain.read("rate-limit", name) is None


@pytest.mark.parametrize("given", [0, -1, math.nan, math.inf, "2", None, True, 10**400])
def test_limits_that_mean_nothing_are_refused(buckets, given):
    for field, make in (
        ("per_second", lambda: RateLimit(given, 10)),
        ("burst", lambda: RateLimit(2, given)),
        ("tokens", lambda: buckets.take("a", TWO_A_SECOND, given)),
    ):
        with pytest.raises(InvalidRequest, match="above 0, at most") as caught:
            make()
        assert caught.value.field == field and caught.value.given is given
    assert buckets.take("a", TWO_A_SECOND).remaining == 9


def test_more_than_a_bucket_holds_is_refused_and_says_what_it_holds(buckets):
    with pytest.raises(InvalidRequest, match=r"tokens: got 10.5; allowed: a number above 0, at most 10"):
        buckets.take("a", TWO_A_SECOND, 10.5)


def test_a_bucket_that_no_expiry_could_reach_is_refused():
    with pytest.raises(InvalidRequest, match="per_second: got 1e-09; allowed: at least"):
        RateLimit(1e-9, 10)
    RateLimit(20 / (366 * 86_400), 20)


def test_whoever_was_overtaken_reads_again(clock):
    records = Interrupted(clock)
    buckets, one = RateLimits(records), RateLimit(1, burst=1)
    records.between = lambda: buckets.take("new", one)
    assert not buckets.take("new", one).allowed
    buckets.take("old", RateLimit(1, burst=2))
    records.between = lambda: buckets.take("old", RateLimit(1, burst=2))
    assert not buckets.take("old", RateLimit(1, burst=2)).allowed


def test_a_reading_from_before_the_bucket_expired_passes_for_no_new_one(clock):
    records = Interrupted(clock)
    buckets, limit = RateLimits(records), RateLimit(1, burst=2)
    buckets.take("a", limit)

    def long_after():
        clock.pass_(1000)
        assert buckets.take("a", limit, 2).allowed

    records.between = long_after
    assert not buckets.take("a", limit).allowed


def test_whoever_is_always_overtaken_gives_up_with_a_clear_error(clock, monkeypatch):
    monkeypatch.setattr(contention, "LONGEST_PAUSE_S", 0.0)
    records = Interrupted(clock)
    buckets, others = RateLimits(records), []

    def overtake():
        others.append(buckets.take("a", TWENTY_AND_NO_MORE, 0.01))
        records.between = overtake

    records.between = overtake
    monkeypatch.setattr(contention, "TRIES", 7)
    with pytest.raises(StoreConflict, match=r"rate limit \w+: others changed it first, 7 times in a row"):
        buckets.take("a", TWENTY_AND_NO_MORE)
    assert len(others) == 7 and all(one.allowed for one in others)


@pytest.mark.parametrize("damage", [Set("spent", None), Set("spent", "much"), Set("spent", -5.0), Set("spent", ["x"])])
def test_a_record_of_nonsense_starts_afresh(buckets, plain, damage):
    buckets.take("a", TWO_A_SECOND, 10)
    ((kind, key),) = plain._records
    plain.write(Write(kind, key, (damage, Set("revision", None))))
    assert [buckets.take("a", TWO_A_SECOND, 10).allowed for _ in range(2)] == [True, False]


def test_a_record_that_cannot_be_read_starts_afresh(tmp_path):
    records = EmbeddedRecordStore(tmp_path)
    buckets = RateLimits(records)
    buckets.take("a", TWENTY_AND_NO_MORE, 20)
    with sqlite3.connect(records.path) as connection:
        connection.execute("UPDATE records SET bins = '{'")
    assert [buckets.take("a", TWENTY_AND_NO_MORE, 20).allowed for _ in range(2)] == [True, False]
    records.close()


def test_a_clock_that_is_set_back_gives_nothing_away_and_blocks_nobody(clock):
    buckets = RateLimits(Rewound(clock))
    buckets.take("a", TWO_A_SECOND, 10)
    for _ in range(5):
        clock.pass_(-3600)
        refused = buckets.take("a", TWO_A_SECOND, 2)
        assert not refused.allowed and refused.retry_after_s == pytest.approx(1, abs=0.01)
    clock.pass_(refused.retry_after_s)
    assert buckets.take("a", TWO_A_SECOND, 2).allowed
    buckets.take("b", TWO_A_SECOND, 4)
    clock.pass_(-3600)
    assert buckets.take("b", TWO_A_SECOND, 4).remaining == 2


@pytest.mark.parametrize("backend_url", ["redis"], indirect=True)
def test_a_redis_whose_clock_was_set_back_gives_nothing_away_and_blocks_nobody(records):
    limit = RateLimit(per_second=5, burst=20)
    buckets = RateLimits(records)
    buckets.take("a", limit, 20)
    (name,) = records._redis.keys(f"{records._namespace}:*")
    records._redis.hset(name, "w", f"{records.now() + 3600:.6f}")
    refused = buckets.take("a", limit)
    assert not refused.allowed and refused.retry_after_s == pytest.approx(0.2, abs=0.01)
    time.sleep(refused.retry_after_s)
    assert buckets.take("a", limit).allowed


# Against an independent implementation: the bucket as a level that rises, in fractions, where floats are exact too.

EIGHTHS = st.integers(1, 64).map(lambda n: Fraction(n, 8))


@given(EIGHTHS, EIGHTHS, st.lists(st.tuples(st.booleans(), EIGHTHS), max_size=30))
def test_a_bucket_does_what_a_rising_level_does(per_second, burst, steps):
    clock = Clock()
    buckets, limit, level = RateLimits(MemoryRecordStore(clock)), RateLimit(float(per_second), float(burst)), burst
    for waits, amount in steps:
        if waits:
            clock.pass_(float(amount))
            level = min(burst, level + amount * per_second)
            continue
        tokens = min(amount, burst)
        decision = buckets.take("a", limit, float(tokens))
        assert decision.allowed is (tokens <= level)
        level -= tokens if decision.allowed else 0
        assert decision.remaining == level
        if not decision.allowed:
            assert 0 <= decision.retry_after_s - float((tokens - level) / per_second) <= 0.01


@given(
    st.floats(0.01, 1000), st.floats(0.1, 1000),
    st.lists(st.tuples(st.sampled_from(["take", "wait", "obey"]), st.floats(0.001, 1)), max_size=40),
)  # fmt: skip
def test_no_stretch_of_time_grants_more_than_it_may_and_whoever_waits_as_told_is_granted(per_second, burst, steps):
    clock = Clock()
    buckets, limit = RateLimits(MemoryRecordStore(clock)), RateLimit(per_second, burst)
    granted: list[tuple[float, float]] = []
    for step, part in steps:
        if step == "wait":
            clock.pass_(2 * part * burst / per_second)
            continue
        decision = buckets.take("a", limit, part * burst)
        if step == "obey" and not decision.allowed:
            clock.pass_(decision.retry_after_s)
            decision = buckets.take("a", limit, part * burst)
            assert decision.allowed
        if decision.allowed:
            granted.append((clock(), part * burst))
    for first, (start, _) in enumerate(granted):
        total = 0.0
        for at, tokens in granted[first:]:
            total += tokens
            assert total <= (burst + per_second * (at - start)) * (1 + 1e-9) + 1e-6


# Competing for real, on every backend.


def take_all(buckets, times, granted):
    for _ in range(times):
        if buckets.take("a", TWENTY_AND_NO_MORE).allowed:
            granted.append(1)


def test_threads_together_get_what_is_in_the_bucket(records):
    granted: list[int] = []
    threads = [threading.Thread(target=take_all, args=(RateLimits(records), 15, granted)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 20
    assert RateLimits(records).take("a", TWENTY_AND_NO_MORE).retry_after_s == pytest.approx(1000, abs=30)


def skewed(url, hours, monkeypatch, connection):
    """In a process whose wall clock is wrong."""
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 3600 * hours)
    granted: list[int] = []
    records = open_records(url)
    take_all(RateLimits(records), 15, granted)
    records.close()
    connection.send(len(granted))


@pytest.mark.parametrize("backend_url", ["embedded", "redis", "aerospike"], indirect=True)
def test_processes_whose_clocks_are_hours_apart_get_what_is_in_the_bucket(backend_url, monkeypatch):
    context, readers = multiprocessing.get_context("fork"), []
    for hours in (-1, 0, 1, 24):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=skewed, args=(backend_url, hours, monkeypatch, writer))
        process.start()
        writer.close()
        readers.append((reader, process))
    found = [reader.recv() for reader, _ in readers]
    for _, process in readers:
        process.join(60)
    assert sum(found) == 20 and [process.exitcode for _, process in readers] == [0] * 4


def test_a_wait_as_told_is_rewarded(records):
    buckets, limit = RateLimits(records), RateLimit(per_second=2, burst=2)
    assert buckets.take("a", limit, 2).allowed
    refused = buckets.take("a", limit)
    assert not refused.allowed and 0 < refused.retry_after_s <= 0.51
    time.sleep(refused.retry_after_s)
    granted = buckets.take("a", limit)
    assert granted.allowed and granted.remaining < 1
