"""Claims of what waits in a lane: alike, in the order of turns, each once, at a cost that does not grow with it."""

import itertools
import threading
import time
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.store.builders import Clock, accepted, memory_store
from tests.store.crashing import WatchedRecordStore
from videogen.requests import batch_key, new_id
from videogen.store import leases
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import StoreLimits
from videogen.store.store import Store

LEASE_S = 30.0
DIGESTS = ("a" * 64, "b" * 64)


def ask(seed: int, **fields):
    return accepted(seed, lane="interactive", **fields)


def seeds(claims) -> list[int]:
    return [claim.request.request.seed for claim in claims]


@pytest.fixture
def store(records) -> Store:
    return Store(records, StoreLimits(first_retry=0.0))


def test_a_claim_takes_what_is_alike_in_the_order_of_turns(store):
    for seed in range(6):
        store.submit(ask(seed, num_inference_steps=4 + seed % 2))
    assert seeds(store.claim_lane("interactive", "a", LEASE_S)) == [0, 2, 4]
    assert seeds(store.claim_lane("interactive", "b", LEASE_S, limit=2)) == [1, 3]
    assert seeds(store.claim_lane("interactive", "c", LEASE_S)) == [5]
    assert store.claim_lane("interactive", "d", LEASE_S) == []


def test_one_version_may_be_asked_for(store):
    for seed, digest in enumerate(DIGESTS * 2):
        store.submit(ask(seed, digest=digest))
    assert seeds(store.claim_lane("interactive", "a", LEASE_S, model_digest=DIGESTS[1])) == [1, 3]
    assert seeds(store.claim_lane("interactive", "a", LEASE_S)) == [0, 2]
    assert store.claim_lane("interactive", "a", LEASE_S, model_digest="c" * 64) == []


def test_lanes_and_batches_keep_to_themselves(store):
    batched, waits = store.submit(accepted(0)).id, store.submit(accepted(1)).id
    store.submit(ask(2))
    batch = store.seal_batch([batched], 60.0)
    assert seeds(store.claim_lane("interactive", "service", LEASE_S)) == [2]
    assert seeds(store.claim_lane("batch", "service", LEASE_S)) == [1]
    assert seeds(store.claim(batch.id, "run", LEASE_S)) == [0] and store.request(waits).state == "running"


def test_a_dead_holder_s_are_handed_out_again_alone_at_their_turn(store):
    for seed in range(3):
        store.submit(ask(seed))
    assert len(store.claim_lane("interactive", "dead", 0.3, limit=2)) == 2
    time.sleep(0.4)
    claims = [store.claim_lane("interactive", "next", LEASE_S) for _ in range(4)]
    assert [seeds(found) for found in claims] == [[0], [1], [2], []]
    assert [claim.attempt for claim in itertools.chain(*claims)] == [2, 2, 1]


def test_what_is_late_or_not_wanted_any_more_is_not_claimed(store):
    late, gone = store.submit(ask(0, deadline=0.1)).id, store.submit(ask(1)).id
    store.submit(ask(2))
    store.cancel(gone)
    time.sleep(0.2)
    assert seeds(store.claim_lane("interactive", "a", LEASE_S)) == [2]
    assert store.request(late).state == "expired"


def test_requests_for_one_video_are_one_claim(store):
    asked = ask(0)
    ids = [store.submit(asked.model_copy(update={"id": new_id()})).id for _ in range(3)]
    (claim,) = store.claim_lane("interactive", "a", LEASE_S)
    store.publish(claim, b"video", {})
    assert {store.request(one).state for one in ids} == {"done"}


def test_claimers_at_once_share_everything_and_twice_nothing(backend_url, store, open_more):
    if backend_url == "memory:":
        pytest.skip("it is in the memory of one process")
    ids = [store.submit(ask(seed)).id for seed in range(40)]
    done: list[str] = []

    def work(number: int) -> None:
        mine = Store(open_more())
        while claims := mine.claim_lane("interactive", f"worker-{number}", LEASE_S, limit=3):
            for claim in claims:
                mine.publish(claim, claim.generation.encode(), {})
                done.append(claim.generation)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(done) == 40 and set(Counter(done).values()) == {1}
    assert {store.request(one).state for one in ids} == {"done"}


REQUESTS = st.tuples(
    st.integers(0, 12),
    st.sampled_from(DIGESTS),
    st.sampled_from([4, 5]),
    st.sampled_from([1.0, 2.0]),
    st.sampled_from(["interactive", "standard"]),
    st.sampled_from([None, 5.0]),
)
EVENTS = st.lists(st.one_of(REQUESTS, st.sampled_from(["claim", "fail", "pass"])), max_size=40)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(EVENTS, st.integers(1, 4))
def test_it_takes_what_a_look_at_everything_would_take(events, limit):
    clock = Clock()
    store = memory_store(clock)
    held = []
    for event in events:
        if event == "claim":
            held += claim_and_compare(store, limit)
        elif event == "fail" and held:
            store.fail(held.pop(), "fault", retry=True)
        elif event == "pass":
            clock.pass_(3.0)
        elif isinstance(event, tuple):
            seed, digest, steps, guidance, priority, deadline = event
            fields = {"num_inference_steps": steps, "guidance_scale": guidance}
            wish = ask(seed, digest=digest, priority=priority, deadline=deadline, **fields)
            store.submit(wish)


def claim_and_compare(store: Store, limit: int):
    """Claims, and compares with what a look at every live request says should be claimed."""
    free = {}
    for record in store.requests(["queued"], limit=1000):
        state = store._queue.generations.read_many([record.generation])[0]
        if not state.retry_in:
            free.setdefault(record.generation, (record, state.attempt))
    free = list(free.values())
    expected = free[:1]
    if free and not free[0][1]:
        kind = batch_key(free[0][0].accepted), free[0][0].version_digest
        alike = [one for one in free if (batch_key(one[0].accepted), one[0].version_digest) == kind and not one[1]]
        expected = alike[:limit]
    claims = store.claim_lane("interactive", "worker", LEASE_S, limit)
    assert [claim.generation for claim in claims] == [record.generation for record, _ in expected]
    return claims


KINDS = st.tuples(st.sampled_from("xy"), st.sampled_from([4, 5]), st.sampled_from(["interactive", "standard", "batch"]))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(KINDS, max_size=30), st.integers(1, 8), st.lists(KINDS, max_size=10))
def test_what_n_stand_before_is_in_the_next_claim_but_n_at_the_latest(kinds, limit, later):
    clock = Clock()
    store, numbers = memory_store(clock), itertools.count()
    for tenant, steps, priority in kinds:
        store.submit(ask(next(numbers), tenant=tenant, num_inference_steps=steps, priority=priority))
    before = [record.generation for record in store.waiting("interactive")]
    clock.pass_(7 * 3600.0)  # whoever comes now comes after the turns of all who wait
    for number in itertools.count():
        claims = store.claim_lane("interactive", "worker", LEASE_S, limit)
        assert not set(before[: number + 1]) - {state.key for state in held(store, before)}
        if not claims:
            break
        for tenant, steps, _ in later:
            store.submit(ask(next(numbers), tenant=tenant, num_inference_steps=steps, priority="interactive"))
        later = later[:-1]
    assert len(before) == len(kinds)


def held(store: Store, keys: list[str]):
    return [state for state in store._queue.generations.read_many(keys) if state.is_held]


class Counted(WatchedRecordStore):
    """Counts the records and the map entries that are read."""

    looked_at = 0

    def read_many(self, kind, keys, aged=False):
        self.looked_at += len(keys)
        return super().read_many(kind, keys, aged)

    def map_range(self, kind, key, after="", limit=1000):
        found = super().map_range(kind, key, after, limit)
        self.looked_at += len(found)
        return found


def cost_of_a_claim(waiting: int, **limits) -> int:
    records = Counted(MemoryRecordStore(Clock()), Counter())
    store = Store(records)
    for seed in range(waiting):
        store.submit(ask(seed))
    records.looked_at = 0
    assert len(store.claim_lane("interactive", "a", LEASE_S, **limits)) == limits.get("limit", 16)
    return records.looked_at


def test_a_claim_reads_as_much_whatever_waits(monkeypatch):
    monkeypatch.setattr(leases, "PAGE", 16)
    assert cost_of_a_claim(1600) <= 1.1 * cost_of_a_claim(400)


def test_a_claim_that_finds_nothing_alike_reads_no_more_than_its_bound(monkeypatch):
    monkeypatch.setattr(leases, "LOOK_AHEAD", 128)
    monkeypatch.setattr(leases, "ALIKE_AHEAD", 64)
    store = memory_store()
    for seed in range(260):
        store.submit(ask(seed, num_inference_steps=5 if seed in (0, 80, 250) else 4, digest=DIGESTS[seed == 150]))
    assert seeds(store.claim_lane("interactive", "a", LEASE_S, limit=4)) == [0, 80], "250 stands too far behind"
    assert store.claim_lane("interactive", "a", LEASE_S, model_digest=DIGESTS[1]) == [], "150 stands too far behind"
