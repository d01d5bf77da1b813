"""Priorities, ageing and fairness between tenants: what the order of a lane promises."""

import itertools
import uuid
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.store.builders import Clock, accepted, memory_store
from videogen.store.records import StoreLimits
from videogen.store.turns import SHARE_S, WAITS_S

PRIORITIES = st.sampled_from(["interactive", "standard", "batch"])
NUMBERS = itertools.count()


def asked(tenant: str = "a", priority: str = "standard"):
    """A request of its own whose id says nothing about when it came."""
    wish = accepted(next(NUMBERS), tenant=tenant, priority=priority)
    return wish.model_copy(update={"id": str(uuid.uuid4())})


def order(store) -> list[str]:
    return [entry.request_id for entry in store._queue.live.entries("batch")]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), PRIORITIES, st.floats(0, 5000)), max_size=40))
def test_nothing_that_comes_after_a_request_s_turn_stands_before_it(arrivals):
    clock = Clock()
    store, came, turn, sent = memory_store(clock), {}, {}, Counter()
    for tenant, priority, pause in arrivals:
        clock.pass_(pause)
        one = store.submit(asked(tenant, priority)).id
        sent[tenant, priority] += 1
        came[one] = clock()
        turn[one] = clock() + WAITS_S[priority] + (sent[tenant, priority] - 1) * SHARE_S  # at the latest
    for before, one in itertools.combinations(order(store), 2):
        assert came[before] <= turn[one] + 0.001


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), PRIORITIES), max_size=40))
def test_a_tenant_s_requests_of_one_priority_keep_their_order(arrivals):
    store, came = memory_store(), {}
    for number, (tenant, priority) in enumerate(arrivals):
        came[store.submit(asked(tenant, priority)).id] = (tenant, priority, number)
    seen = [came[one] for one in order(store)]
    for lane in itertools.product("ab", WAITS_S):
        numbers = [number for *of, number in seen if tuple(of) == lane]
        assert numbers == sorted(numbers)


def test_who_sends_one_does_not_wait_for_who_sent_a_thousand():
    store = memory_store()
    flood = [store.submit(asked("flood")).id for _ in range(200)]
    one = store.submit(asked("quiet")).id
    assert order(store).index(one) <= 1
    assert store.position(one) <= 1 and store.position(flood[-1]) == 200


def test_a_tenant_whose_requests_are_all_answered_does_not_fall_ever_further_behind():
    clock = Clock()
    store = memory_store(clock)

    def lead_after(seconds: int) -> float:
        for _ in range(5 * seconds):
            store.submit(asked("busy", "interactive"))
            (claim,) = store.claim_lane("batch", "worker", 60.0, 1)
            store.publish(claim, claim.generation.encode(), {})
            clock.pass_(0.2)
        return int(store._queue.turns.next("busy", "batch", "interactive", clock())) / 1000 - clock()

    first = lead_after(60)
    assert lead_after(120) < first < 60.0


@pytest.mark.parametrize(("weights", "share"), [({}, 1), ({"big": 3.0}, 3)])
def test_tenants_that_both_wait_get_shares_by_their_weights(weights, share):
    store = memory_store(limits=StoreLimits(tenant_weights=weights))
    for tenant in ("big", "small"):
        for _ in range(120):
            store.submit(asked(tenant))
    tenants = [store.request(one).accepted.request.tenant for one in order(store)]
    for size in (40, 80, 120):
        found = Counter(tenants[:size])
        assert found["big"] == pytest.approx(share * found["small"], abs=share + 1)


def test_a_higher_priority_goes_first_until_the_lower_has_waited_long_enough():
    clock = Clock()
    store = memory_store(clock)
    low = store.submit(asked("a", "batch")).id
    clock.pass_(WAITS_S["batch"] - 1)
    high = store.submit(asked("b", "interactive")).id
    assert order(store) == [high, low]
    clock.pass_(2)
    later = store.submit(asked("c", "interactive")).id
    assert order(store) == [high, low, later]


def test_a_tenant_s_flood_of_one_priority_does_not_hold_up_its_other():
    store = memory_store()
    for _ in range(100):
        store.submit(asked("a", "batch"))
    urgent = store.submit(asked("a", "interactive")).id
    assert order(store)[0] == urgent and store.position(urgent) == 0


def test_what_is_spread_over_the_priorities_and_then_changed_takes_as_many_shares_as_what_came_with_one():
    store = memory_store()
    flood = [store.submit(asked("flood", priority)).id for priority in WAITS_S for _ in range(10)]
    for one in flood:
        store.plan(one, {"priority": "interactive"})
    turns = sorted(int(store.request(one).turn) for one in flood)
    assert [turn - turns[0] for turn in turns] == [round(1000 * SHARE_S * number) for number in range(30)]


def test_requests_that_waited_keep_their_age_when_they_are_changed_and_take_a_share_each():
    clock = Clock()
    store = memory_store(clock)
    first, second = (store.submit(asked("a", "batch")).id for _ in range(2))
    clock.pass_(3600)
    fresh = store.submit(asked("b", "interactive")).id
    for one in (second, first):
        store.plan(one, {"priority": "interactive"})
    assert set(order(store)[:2]) == {first, second} and order(store)[2] == fresh
    turns = sorted(int(store.request(one).turn) / 1000 for one in (first, second))
    assert all(turn >= clock() - 3600 + number * SHARE_S for number, turn in enumerate(turns))


def test_what_is_changed_to_and_fro_gets_nowhere_before_where_it_came():
    store = memory_store()
    ids = [store.submit(asked("a", "interactive")).id for _ in range(3)]
    came = store.request(ids[2]).turn
    for priority in ("batch", "interactive", "standard", "interactive"):
        store.plan(ids[2], {"priority": priority})
    assert store.request(ids[2]).turn >= came and order(store) == ids


def test_an_idle_tenant_s_clock_is_forgotten():
    clock = Clock()
    store = memory_store(clock)
    for _ in range(10):
        store.submit(asked("a"))
    clock.pass_(3600)
    assert not [name for name in store.records.names() if name[0] == "turns"]


def test_the_position_of_what_has_ended_is_none():
    store = memory_store()
    one = store.submit(asked()).id
    store.cancel(one)
    assert store.position(one) is None and order(store) == []
