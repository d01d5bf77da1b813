"""Joins and leases that ran out, told apart from all that is alike: as series, and as the requests tell it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.store.builders import accepted
from tests.store.servers import until
from tests.store.test_stats import series
from videogen.errors import StoreUnavailable
from videogen.requests import new_id
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.metrics import StoreMetrics
from videogen.store.records import Claim, StoreLimits
from videogen.store.store import Store

ROOT = Path(__file__).resolve().parents[2]
SHORT_S, LONG_S = 0.2, 600.0


class Metered:
    """A store with its counters. `open` gives one more, as of another process; all are counted together."""

    def __init__(self, open_more: Callable) -> None:
        self.metrics, self.open_more = StoreMetrics(), open_more
        self.store = self.open()

    def open(self) -> Store:
        return Store(self.metrics.metered(self.open_more(), "some"), StoreLimits(first_retry=0.05))

    def counts(self) -> dict[str, float]:
        found = series(self.metrics.exposition(self.store))
        names = ("joins", "lease_expiries", "retries", "failed_attempts")
        return {name: count for name in names if (count := found[f"videogen_store_{name}_total",])}

    def claimed(self, request_ids: Sequence[str], lease_s: float = LONG_S) -> list[Claim]:
        """As soon as there is something to claim."""
        found: list[Claim] = []
        until(lambda: bool(found.extend(self.store.claim(request_ids, "worker", lease_s)) or found))
        return found


@pytest.fixture
def metered(backend_url, records, open_more) -> Metered:
    return Metered((lambda: records) if backend_url == "memory:" else open_more)


def test_a_lease_that_ran_out_is_one_expiry(metered):
    one = metered.store.submit(accepted(1)).id
    (late,) = metered.store.claim([one], "late", SHORT_S)
    assert metered.counts() == {}
    time.sleep(2 * SHORT_S)
    assert metered.counts() == {}, "nobody has noticed yet"
    assert metered.claimed([one]) and metered.open().claim([one], "another", LONG_S) == []
    assert metered.store.renew([late]).lost == (late,)
    assert metered.counts() == {"lease_expiries": 1, "retries": 1}
    assert (metered.store.request(one).attempts, metered.store.stats().lease_expiries) == (2, 1)


def test_a_failed_attempt_is_none(metered):
    one = metered.store.submit(accepted(1)).id
    (claim,) = metered.store.claim([one], "worker", LONG_S)
    metered.store.fail(claim, "out of memory", retry=True)
    (claim,) = metered.claimed([one])
    assert metered.counts() == {"failed_attempts": 1, "retries": 1}
    metered.store.publish(claim, b"mp4", {})
    assert (metered.store.request(one).attempts, metered.store.stats().lease_expiries) == (2, 0)


def test_a_lease_given_back_unused_is_neither_an_expiry_nor_a_retry(metered):
    one = metered.store.submit(accepted(1)).id
    metered.store.release(metered.store.claim([one], "worker", LONG_S))
    assert metered.store.claim([one], "worker", LONG_S)[0].attempt == 1 and metered.counts() == {}


def test_a_batch_that_is_given_back_is_a_retry_and_no_expiry(metered):
    one = metered.store.submit(accepted(1)).id
    batch = metered.store.seal_batch([one], 600.0).id
    assert metered.store.claim(batch, "run", LONG_S)
    metered.store.give_back(batch, "its run died")
    assert metered.claimed([one]) and metered.counts() == {"retries": 1}


def test_the_last_lease_that_ran_out_is_counted_when_its_generation_is_given_up(metered):
    one = metered.store.submit(accepted(1)).id
    for _ in range(metered.store.limits.max_attempts):
        assert metered.claimed([one], SHORT_S)
    until(lambda: metered.store.request(one).state == "failed")
    assert metered.counts() == {"lease_expiries": 3, "retries": 2}
    assert metered.store.stats().lease_expiries == metered.store.request(one).attempts == 3


def test_a_request_for_what_is_being_made_is_one_join(metered):
    asked = accepted(1)

    def twin():
        return asked.model_copy(update={"id": new_id()})

    waits = [metered.store.submit(one) for one in (asked, twin())]
    assert metered.counts() == {} and not any(one.joined for one in waits), "nobody makes it yet"
    (claim,) = metered.store.claim([asked.id], "worker", LONG_S)
    second = twin()
    for store in (metered.store, metered.open(), metered.open()):
        assert store.submit(second).joined, "the same id again is the same request"
    assert metered.counts() == {"joins": 1}
    metered.store.publish(claim, b"mp4", {})
    assert metered.store.submit(twin()).state == "done"
    assert metered.counts() == {"joins": 1} and metered.store.request(second.id).joined


def test_whoever_comes_when_the_lease_has_run_out_has_joined_nobody(metered):
    asked = accepted(1)
    metered.store.submit(asked)
    metered.store.claim([asked.id], "late", SHORT_S)
    until(lambda: metered.store.request(asked.id).state == "queued")
    other = metered.store.submit(asked.model_copy(update={"id": new_id()}))
    assert not other.joined and metered.counts() == {}


@pytest.mark.parametrize("backend_url", ["embedded", "redis", "aerospike"], indirect=True)
def test_a_holder_that_is_killed_is_one_expiry(backend_url, metered):
    command = [sys.executable, "-m", "tests.store.joiner", backend_url, "lead", ""]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, **pipes) as leader:
        request_id = leader.stdout.readline().split()[1]
        assert leader.stdout.readline().split() == ["leads", "1"]
        joined = metered.store.submit(accepted(7))
        leader.send_signal(signal.SIGKILL)
    assert joined.joined and metered.counts() == {"joins": 1}
    (heir,) = metered.claimed([request_id, joined.id])
    metered.store.publish(heir, b"mp4", {})
    assert metered.counts() == {"joins": 1, "lease_expiries": 1, "retries": 1}
    found = metered.store.stats()
    assert (found.claims, found.retries, found.lease_expiries, found.answers) == (2, 1, 1, {"miss": 1, "joined": 1})


def test_what_a_block_takes_back_was_not_written(tmp_path):
    metrics = StoreMetrics()
    store = Store(metrics.metered(EmbeddedRecordStore(tmp_path), "some"))

    def taken_back() -> None:
        with store.records.together(), store.records.together():
            store.submit(accepted(1))
            raise StoreUnavailable("no space left on device")

    with pytest.raises(StoreUnavailable):
        taken_back()
    queued = ("videogen_store_states_written_total", "request", "queued")
    assert queued not in series(metrics.exposition(store)) and store.requests() == []
    with store.records.together():
        store.submit(accepted(1))
        assert queued not in series(metrics.exposition(store)), "the block has not been left"
    store.submit(accepted(2))
    assert series(metrics.exposition(store))[queued] == 2
    store.close()
