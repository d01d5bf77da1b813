"""Requests that failed: listed with why and when, and asked again as requests of their own, whatever dies."""

import threading
from collections import Counter

import pytest

from tests.store.builders import Clock, accepted, drain_all, memory_store
from tests.store.crashing import Crash, WatchedRecordStore
from videogen.errors import RecordDamaged, RecordNotFound, StoreConflict
from videogen.requests import new_id
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import Set, Write
from videogen.store.records import StoreLimits
from videogen.store.store import Store

LEASE_S = 30.0


def fail(store: Store, seed: int = 0, retry: bool = False) -> str:
    """A request of which every attempt fails."""
    request_id = store.submit(accepted(seed)).id
    while claims := store.claim([request_id], "worker", LEASE_S):
        store.fail(claims[0], f"no {seed}", retry)
    return request_id


@pytest.fixture
def store(records) -> Store:
    return Store(records, StoreLimits(first_retry=0.0))


def test_what_failed_is_listed_with_its_error_its_attempts_and_when(store):
    before = store.records.now()
    at_once, worn_out = fail(store, 0), fail(store, 1, retry=True)
    drain_all(store)
    assert store.submit(accepted(2)).state == "queued" and store.cancel(store.submit(accepted(3)).id)
    letters = {letter.id: letter for letter in store.dead_letters()}
    assert set(letters) == {at_once, worn_out}
    assert [(letters[one].error, letters[one].attempts) for one in (at_once, worn_out)] == [("no 0", 1), ("no 1", 3)]
    assert all(before <= letter.ended_at <= store.records.now() for letter in letters.values())
    assert len(store.dead_letters(limit=1)) == 1


def test_a_requeued_request_is_a_new_one_with_a_life_of_its_own(store):
    old = fail(store, retry=True)
    new = store.requeue(old)
    assert new.id != old and (new.state, new.attempts) == ("queued", 0)
    assert new.accepted.fingerprint == store.request(old).accepted.fingerprint
    assert store.dead_letters() == []
    assert store.requeue(old).id == new.id == store.request(old).requeued_as
    (claim,) = store.claim([new.id], "worker", LEASE_S)
    assert claim.attempt == 1
    store.publish(claim, b"video", {})
    assert [store.request(one).state for one in (old, new.id)] == ["failed", "done"]
    assert store.requeue(old).state == "done"


def test_one_that_fails_again_is_a_dead_letter_of_its_own(store):
    old = fail(store)
    new = store.requeue(old).id
    (claim,) = store.claim([new], "worker", LEASE_S)
    store.fail(claim, "no again", retry=False)
    (letter,) = store.dead_letters()
    assert (letter.id, letter.error) == (new, "no again")
    assert store.requeue(old) == store.request(new), "an heir that failed is not asked again by itself"
    assert store.requeue(new).id not in (old, new)


def test_one_that_a_crash_had_noted_in_two_hours_is_listed_once():
    clock = Clock()
    store = memory_store(clock)
    old = fail(store)
    clock.seconds += 3600
    store._queue.settle([store.request(old)])  # as the recovery does for one whose end a crash cut short
    assert [letter.id for letter in store.dead_letters()] == [old]
    assert store.stats().dead_letters == 1


def test_only_what_failed_is_requeued(store):
    one = store.submit(accepted()).id
    with pytest.raises(StoreConflict, match="queued"):
        store.requeue(one)
    store.cancel(one)
    with pytest.raises(StoreConflict, match="cancelled"):
        store.requeue(one)
    with pytest.raises(RecordNotFound):
        store.requeue(new_id())


def test_a_damaged_request_is_listed_and_cannot_be_requeued(store):
    one = store.submit(accepted()).id
    store.records.write(Write("request", one, (Set("accepted", "{"),)))
    assert store.request(one).state == "failed"
    assert [letter.id for letter in store.dead_letters()] == [one]
    with pytest.raises(StoreConflict, match="damaged"):
        store.requeue(one)
    with pytest.raises(RecordDamaged, match=f"request {one} is damaged: .*cannot be read"):
        _ = store.request(one).asked


def test_requeued_by_several_at_once_it_is_one(backend_url, store, open_more):
    if backend_url == "memory:":
        pytest.skip("it is in the memory of one process")
    old, heirs = fail(store), []
    workers = [threading.Thread(target=lambda: heirs.append(Store(open_more()).requeue(old).id)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(heirs) == 4 and len(set(heirs)) == 1
    assert [record.id for record in store.waiting()] == heirs[:1]


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
def test_a_death_before_any_write_of_it_leaves_one_request_or_the_dead_letter(backwards):
    writes_left, died = 0, True
    while died:
        inner, ends = MemoryRecordStore(Clock()), Counter()
        old = fail(Store(WatchedRecordStore(inner, ends)))
        try:
            Store(WatchedRecordStore(inner, ends, writes_left, backwards)).requeue(old)
            died = False
        except Crash:
            died, writes_left = True, writes_left + 1
        store = Store(WatchedRecordStore(inner, ends))
        assert store.dead_letters() or store.request(store.request(old).requeued_as).is_live
        new = store.requeue(old).id
        drain_all(store)
        assert [store.request(one).state for one in (old, new)] == ["failed", "done"]
        assert store.dead_letters() == [] and len(store.requests()) == 2
        assert set(ends.values()) == {1}, "something ended twice"
    assert writes_left > 2


def test_dead_letters_are_kept_as_long_as_requests(clock):
    store = memory_store(clock, StoreLimits(keep_requests=10_000.0))
    fail(store)
    clock.pass_(9_999.0)
    assert len(store.dead_letters()) == 1
    clock.pass_(2.0)
    assert store.dead_letters() == []
