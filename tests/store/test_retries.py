"""What failed and may be tried again rests first: for longer after each attempt, by the store's clock."""

import statistics
import time

import pytest

from tests.store.builders import accepted, memory_store
from videogen.errors import RecordNotFound
from videogen.store.records import StoreLimits
from videogen.store.store import Store

LEASE_S = 30.0
RESTS = [(1, 2.0), (2, 4.0), (3, 8.0), (4, 10.0), (9, 10.0)]
LIMITS = StoreLimits(max_attempts=10, first_retry=2.0, longest_retry=10.0)


def fail(store: Store, seed: int, attempts: int, clock) -> float:
    """Fails a request so often; gives the seconds that its generation then rests."""
    one = store.submit(accepted(seed)).id
    for _ in range(attempts):
        clock.pass_(LIMITS.longest_retry)
        (claim,) = store.claim([one], "worker", LEASE_S)
        store.fail(claim, "no", retry=True)
    return store._queue.generations.read_many([claim.generation])[0].retry_in


@pytest.mark.parametrize(("attempts", "longest"), RESTS)
def test_it_rests_twice_as_long_after_each_attempt_up_to_a_bound(clock, attempts, longest):
    rests = [fail(memory_store(clock, LIMITS), 0, attempts, clock) for _ in range(40)]
    assert all(longest / 2 <= rest <= longest for rest in rests)
    assert statistics.stdev(rests) > longest / 20, "those that failed at once would come back at once"


def test_nobody_gets_it_before_it_has_rested(clock):
    store = memory_store(clock, LIMITS)
    rest = fail(store, 0, 1, clock)
    (record,) = store.waiting()
    clock.pass_(rest - 0.01)
    batch = store.seal_batch([record.id], 1000.0)
    assert store.claim(batch.id, "run", LEASE_S) == []
    assert store.claimable_in(batch.id) == pytest.approx(0.01)
    clock.pass_(0.02)
    assert store.claimable_in(batch.id) == 0.0
    assert len(store.claim(batch.id, "run", LEASE_S)) == 1 and store.claimable_in(batch.id) is None
    with pytest.raises(RecordNotFound):
        store.claimable_in("no such batch")


def test_others_are_not_held_up_by_what_rests(clock):
    store = memory_store(clock, LIMITS)
    rest = fail(store, 0, 1, clock)
    store.submit(accepted(1))
    claims = store.claim_lane("batch", "worker", LEASE_S)
    assert [claim.request.request.seed for claim in claims] == [1]
    assert store.claim_lane("batch", "worker", LEASE_S) == []
    clock.pass_(rest + 0.001)  # the sum is rounded
    assert [claim.attempt for claim in store.claim_lane("batch", "worker", LEASE_S)] == [2]


def test_a_lease_that_ran_out_is_free_at_once(clock):
    store = memory_store(clock, LIMITS)
    fail(store, 0, 1, clock)
    clock.pass_(LIMITS.longest_retry)
    assert store.claim_lane("batch", "dead", LEASE_S)
    clock.pass_(LEASE_S)
    assert [claim.attempt for claim in store.claim_lane("batch", "next", LEASE_S)] == [3]


def test_a_request_asked_anew_does_not_rest(clock):
    store = memory_store(clock, StoreLimits(max_attempts=1))
    (claim,) = [store.submit(accepted())] and store.claim_lane("batch", "worker", LEASE_S)
    store.fail(claim, "no", retry=True)
    store.requeue(claim.request.id)
    assert len(store.claim_lane("batch", "worker", LEASE_S)) == 1


def test_every_backend_makes_it_rest_by_its_own_clock(records):
    store = Store(records, StoreLimits(first_retry=1.0))
    one = store.submit(accepted()).id
    (claim,) = store.claim([one], "worker", LEASE_S)
    store.fail(claim, "no", retry=True)
    failed = time.monotonic()
    assert store.request(one).state == "queued"
    while not (claims := store.claim([one], "worker", LEASE_S)):
        time.sleep(0.02)
    assert time.monotonic() - failed >= 0.5 - 0.05 and claims[0].attempt == 2
    store.publish(claims[0], b"video", {})
    assert store.request(one).state == "done" and store.request(one).attempts == 2
