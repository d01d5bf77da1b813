"""Where a request stands and when it may be answered: measured from what its lane answered lately."""

import pytest

from tests.store.builders import accepted, memory_store
from videogen.errors import RecordNotFound
from videogen.requests import new_id
from videogen.store.pace import SLICE_S, SLICES
from videogen.store.store import Store

LEASE_S = 30.0


def answer(store: Store, count: int, clock, every_s: float, lane: str = "batch") -> None:
    for claim in store.claim_lane(lane, "worker", LEASE_S, limit=count):
        clock.pass_(every_s)
        store.publish(claim, claim.generation.encode(), {})


def fill(store: Store, count: int, **fields) -> list[str]:
    return [store.submit(accepted(seed, **fields)).id for seed in range(count)]


@pytest.mark.parametrize("every_s", [0.5, 3.0, 20.0])
def test_it_takes_a_lane_to_go_on_as_it_did(clock, every_s):
    store = memory_store(clock)
    ids = fill(store, 40)
    assert store.eta(ids[-1]).position == 39 and store.eta(ids[-1]).seconds is None
    answer(store, 20, clock, every_s)
    for place, one in enumerate(ids[20:]):
        eta = store.eta(one)
        assert eta.position == place
        slack = SLICE_S / (20 * every_s)  # one slice of time is counted as a whole
        assert eta.seconds == pytest.approx((place + 1) * every_s, rel=0.1 + slack)


def test_what_has_ended_has_none_and_what_never_was_is_told(clock):
    store = memory_store(clock)
    (one,) = fill(store, 1)
    answer(store, 1, clock, 1.0)
    assert store.eta(one) is None
    with pytest.raises(RecordNotFound):
        store.eta(new_id())


def test_lanes_have_a_pace_of_their_own(clock):
    store = memory_store(clock)
    fill(store, 10)
    urgent = store.submit(accepted(100, lane="interactive")).id
    answer(store, 10, clock, 1.0)
    assert store.eta(urgent).seconds is None
    answer(store, 1, clock, 1.0, "interactive")
    urgent = store.submit(accepted(101, lane="interactive")).id
    assert store.eta(urgent).seconds > 0


def test_what_is_long_ago_is_forgotten_and_leaves_nothing(clock):
    store = memory_store(clock)
    ids = fill(store, 10)
    answer(store, 5, clock, 1.0)
    assert [name for name in store.records.names() if name[0] == "pace"]
    clock.pass_(SLICE_S * (SLICES + 2))
    assert store.eta(ids[-1]).seconds is None
    assert not [name for name in store.records.names() if name[0] == "pace"]


def test_the_cache_and_what_fails_count_for_nothing(clock):
    store = memory_store(clock)
    ids = fill(store, 3)
    (claim,) = store.claim_lane("batch", "worker", LEASE_S, limit=1)
    store.fail(claim, "no", retry=False)
    store.cancel(ids[1])
    assert store.eta(ids[2]).seconds is None


def test_every_backend_counts(records):
    store = Store(records)
    ids = fill(store, 4)
    for claim in store.claim(ids[:3], "worker", LEASE_S):
        store.publish(claim, claim.generation.encode(), {})
    eta = store.eta(ids[3])
    assert eta.position == 0 and 0 < eta.seconds <= SLICE_S
