"""Live requests that are asked otherwise: a video of their own, nobody else's changes, whatever dies in between."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.store.builders import DIGEST, SPEC, Clock, accepted, drain_all
from tests.store.crashing import Crash, InterruptedRecordStore, WatchedRecordStore, sets
from videogen.errors import InvalidRequest, RecordNotFound, StoreConflict
from videogen.requests import AcceptedRequest, Request, accept, new_id
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import MapRemove
from videogen.store.records import RequestRecord, StoreLimits
from videogen.store.store import Store

LEASE_S = 30.0
OTHER = "e" * 64
BLUE = {"prompt": "a blue ball"}


@pytest.fixture
def store(records) -> Store:
    return Store(records, StoreLimits(first_retry=0.0))


def twin(request: AcceptedRequest) -> AcceptedRequest:
    return request.model_copy(update={"id": new_id()})


def test_a_request_that_waits_is_asked_otherwise_from_the_first_step_on(store):
    one = store.submit(accepted(0))
    changed = store.fork(one.id, BLUE, 0)
    assert (changed.id, changed.state, changed.turn) == (one.id, "queued", one.turn)
    assert changed.generation != one.generation and changed.accepted.request.prompt == "a blue ball"
    (claim,) = store.claim([one.id], "worker", LEASE_S)
    assert claim.generation == changed.generation and claim.request == changed.accepted
    assert claim.facts()["changes"] == [{"step": 0, "prompt": "a blue ball"}]
    store.publish(claim, b"blue", claim.facts())
    assert store.read_video(store.request(one.id).video) == b"blue"


def test_who_joined_keeps_the_old_video_and_nobody_ever_finds_the_new_one(store):
    first = accepted(0)
    one, joined = store.submit(first), store.submit(twin(first))
    (old,) = store.claim([one.id], "worker", LEASE_S)
    changed = store.fork(one.id, BLUE, 3)
    assert changed.accepted.request.prompt == "a red ball" and changed.accepted.at(3).prompt == "a blue ball"
    assert store.renew([old]).kept == (old,), "somebody still waits for it"
    assert [one.id for one in store.awaiting(old.generation)] == [joined.id]
    (mine,) = store.claim([one.id], "worker", LEASE_S)
    store.publish(mine, b"blue", {})
    assert [store.request(each.id).state for each in (one, joined)] == ["done", "running"]
    store.publish(old, b"red", {})
    assert store.read_video(store.request(joined.id).video) == b"red"
    again = store.submit(twin(first))
    assert again.state == "done" and store.read_video(again.video) == b"red"
    blue = accept(Request(prompt="a blue ball", seed=0), SPEC, DIGEST)
    assert store.submit(blue).state == "queued"


def test_what_nobody_waits_for_any_more_is_not_wanted(store):
    one = store.submit(accepted(0))
    (old,) = store.claim([one.id], "worker", LEASE_S)
    store.fork(one.id, BLUE, 1)
    assert not store.awaiting(old.generation) and store.renew([old]).unwanted == (old,)
    store.publish(old, b"red", {})
    assert store.request(one.id).state == "queued", "it waits for its own"


def test_it_was_not_joined_any_more(store):
    first = accepted(0)
    one = store.submit(first)
    store.claim([one.id], "worker", LEASE_S)
    joined = store.submit(twin(first))
    assert joined.joined
    assert store.plan(joined.id, {"priority": "batch"}).joined
    assert not store.fork(joined.id, BLUE, 1).joined


def test_changes_add_up_and_each_is_a_video_of_its_own(store):
    one = store.submit(accepted(0))
    first = store.fork(one.id, BLUE, 5)
    second = store.fork(one.id, {"guidance_scale": 3.0}, 2)
    assert [change.step for change in second.accepted.changes] == [5, 5], "a change begins no earlier than those before"
    assert second.accepted.at_last.prompt == "a blue ball" and second.accepted.at_last.guidance_scale == 3.0
    assert len({one.generation, first.generation, second.generation}) == 3
    drain_all(store)
    assert store.request(one.id).state == "done"


def test_a_request_in_a_batch_is_made_by_its_run(store):
    one = store.submit(accepted(0))
    batch = store.seal_batch([one.id], 60.0)
    assert store.fork(one.id, BLUE, 0).batch == batch.id
    (claim,) = store.claim(batch.id, "run", LEASE_S)
    assert claim.request.request.prompt == "a blue ball"


def test_only_what_has_not_ended_is_changed(store):
    one = store.submit(accepted(0)).id
    store.cancel(one)
    for change in (lambda: store.fork(one, BLUE, 0), lambda: store.plan(one, {"priority": "batch"})):
        with pytest.raises(StoreConflict, match="is cancelled"):
            change()
    with pytest.raises(RecordNotFound):
        store.fork(new_id(), BLUE, 0)


def test_a_priority_moves_a_request_as_if_it_had_come_with_that(store):
    ids = [store.submit(accepted(seed)).id for seed in range(3)]
    moved = store.plan(ids[2], {"priority": "interactive"})
    assert (moved.priority, moved.accepted.request.priority) == ("interactive", "interactive")
    assert [record.id for record in store.waiting()] == [ids[2], ids[0], ids[1]]
    back = store.plan(ids[2], {"priority": "standard"})
    assert [record.id for record in store.waiting()] == ids and len(list(store._queue.entries())) == 3
    assert back.generation == store.request(ids[2]).generation == moved.generation


def test_a_deadline_counts_from_acceptance(records):
    store = Store(records)
    one = store.submit(accepted(0, deadline=5.0))
    assert store.plan(one.id, {"deadline": 60.0}).deadline_at == one.submitted_at + 60.0


SAME_TURN = StoreLimits(tenant_weights={"default": 1e9})
"""Shares so small that a request which gets its first priority back gets its first turn back."""


def leaves_its_place(write) -> bool:
    return write.kind == "live" and any(isinstance(op, MapRemove) for op in write.operations)


def entries(store: Store) -> list[str]:
    return [entry.request_id for entry in store._queue.entries()]


def test_a_change_that_is_overtaken_by_the_one_back_does_not_remove_the_place_of_that(records):
    other = Store(records, SAME_TURN)
    one = other.submit(accepted(0, priority="interactive"))
    inner = InterruptedRecordStore(records, leaves_its_place, lambda: other.plan(one.id, {"priority": "interactive"}))
    Store(inner, SAME_TURN).plan(one.id, {"priority": "batch"})
    assert inner.has_acted and other.request(one.id).priority == "interactive"
    assert entries(other) == [one.id] and other.request(one.id).turn == one.turn
    (claim,) = other.claim_lane("batch", "worker", LEASE_S)
    assert claim.request.id == one.id


def test_a_pass_of_recovery_between_two_writes_of_a_change_loses_nothing(records):
    janitor = Store(records)
    one = janitor.submit(accepted(0)).id
    inner = InterruptedRecordStore(records, sets("request", "turn"), janitor.recover)
    changed = Store(inner).plan(one, {"priority": "interactive"})
    assert inner.has_acted and set(entries(janitor)) == {one}
    janitor.recover()
    assert [entry.key for entry in janitor._queue.entries()] == [changed.turn + one]
    (claim,) = janitor.claim_lane("batch", "worker", LEASE_S)
    assert claim.request.id == one


def test_a_pass_of_recovery_and_then_a_death_before_the_last_write_lose_nothing(records):
    janitor = Store(records)
    one = janitor.submit(accepted(0)).id

    def die() -> None:
        raise Crash

    dying = InterruptedRecordStore(records, leaves_its_place, die)
    with pytest.raises(Crash):
        Store(InterruptedRecordStore(dying, sets("request", "turn"), janitor.recover)).plan(
            one, {"priority": "interactive"}
        )
    for _ in range(2):
        janitor.recover()
        assert entries(janitor) == [one]


def test_changes_over_two_stores_at_once_lose_no_request(open_more, backend_url):
    if backend_url == "memory:":
        pytest.skip("two of them share nothing")
    stores = [Store(open_more(), SAME_TURN) for _ in range(2)]
    for seed in range(20):
        one = stores[0].submit(accepted(seed, priority="interactive")).id
        both = threading.Barrier(2)

        def change(number: int, priority: str, one: str = one, both: threading.Barrier = both) -> None:
            both.wait()
            stores[number].plan(one, {"priority": priority})

        changes = [threading.Thread(target=change, args=each) for each in ((0, "batch"), (1, "interactive"))]
        for thread in changes:
            thread.start()
        for thread in changes:
            thread.join()
        assert set(entries(stores[0])) == {one}
        stores[0].recover()
        assert [entry.key for entry in stores[0]._queue.entries()] == [stores[0].request(one).turn + one]
        stores[0].cancel(one)


def overtaken(end: Callable[[Store], object], change: Callable[[Store], RequestRecord], records, *states: str):
    """A change that looked at its request before `end` did, and is written before that ends the request.

    `states` are those in which the end would have left it. Gives what the change gave and what the end gave.
    """
    reached, changed = threading.Event(), threading.Event()

    def hold() -> None:
        reached.set()
        assert changed.wait(60)

    ending = Store(InterruptedRecordStore(records, sets("request", "state", *states), hold))
    with ThreadPoolExecutor() as pool:
        ended: list[Future] = []

        def start() -> None:
            ended.append(pool.submit(end, ending))
            assert reached.wait(60)

        try:
            after = change(Store(InterruptedRecordStore(records, sets("request", "accepted"), start)))
        finally:
            changed.set()
        return after, ended[0].result(60)


@pytest.mark.parametrize("outcome", ["published", "failed"])
def test_what_a_request_no_longer_waits_for_does_not_end_it(records, outcome):
    store = Store(records)
    one = store.submit(accepted(0))
    (old,) = store.claim([one.id], "worker", LEASE_S)

    def end(other: Store) -> None:
        if outcome == "published":
            other.publish(old, b"red", {})
        else:
            other.fail(old, "no such colour", retry=False)

    changed, _ = overtaken(end, lambda other: other.fork(one.id, BLUE, 1), records, "done", "failed")
    assert store.request(one.id) == changed and changed.state == "queued"
    (mine,) = store.claim([one.id], "worker", LEASE_S)
    store.publish(mine, b"blue", {})
    assert store.read_video(store.request(one.id).video or "") == b"blue"


def test_a_request_whose_deadline_was_put_off_does_not_expire_at_the_old_one():
    clock = Clock()
    records = MemoryRecordStore(clock)
    store = Store(records)
    one = store.submit(accepted(0, deadline=5.0)).id

    def look(other: Store) -> RequestRecord:
        clock.pass_(6.0)
        return other.request(one)

    changed, seen = overtaken(look, lambda other: other.plan(one, {"deadline": 60.0}), records, "expired")
    assert changed.state == seen.state == store.request(one).state == "queued"
    clock.pass_(60.0)
    assert store.request(one).state == "expired"


def test_a_cancel_ends_a_request_that_is_changed_meanwhile(records):
    store = Store(records)
    one = store.submit(accepted(0)).id
    inner = InterruptedRecordStore(records, sets("request", "state", "cancelled"), lambda: store.fork(one, BLUE, 1))
    assert Store(inner).cancel(one).state == "cancelled" == store.request(one).state
    assert inner.has_acted and store._queue.generations.waiters(store.request(one).generation) == []


@pytest.mark.parametrize("fields", [BLUE, {"priority": "interactive"}], ids=["forked", "moved"])
def test_a_change_that_came_too_late_leaves_nothing_behind(records, fields):
    store = Store(records)
    one = store.submit(accepted(0)).id
    inner = InterruptedRecordStore(records, sets("request", "accepted"), lambda: store.cancel(one))
    with pytest.raises(StoreConflict, match="is cancelled"):
        Store(inner).fork(one, fields, 1) if fields == BLUE else Store(inner).plan(one, fields)
    assert inner.has_acted and entries(store) == []
    keys = list(records.keys("waiters"))
    assert [store._queue.generations.waiters(key) for key in keys] == [[]] * len(keys)
    assert all(getattr(one, "expires_in", None) for one in records.read_many("waiters", keys, aged=True))


def test_a_deadline_ends_a_request_on_every_backend(records):
    store = Store(records)
    one = store.submit(accepted(0, deadline=0.2)).id
    until = time.monotonic() + 60.0
    while store.request(one).state != "expired":
        assert time.monotonic() < until
        time.sleep(0.05)


def fork_one(store: Store, request_id: str) -> None:
    store.fork(request_id, BLUE, 1)


def move_one(store: Store, request_id: str) -> None:
    store.plan(request_id, {"priority": "interactive", "deadline": 5000.0})


@pytest.mark.parametrize("backwards", [False, True], ids=["in order", "backwards"])
@pytest.mark.parametrize("change", [fork_one, move_one])
@pytest.mark.parametrize("claimed", [False, True], ids=["waiting", "claimed"])
def test_a_death_before_any_write_leaves_it_changed_or_as_it_was(claimed, change, backwards):
    writes_left, died, prompts = 0, True, set()
    while died:
        clock, ends = Clock(), Counter()
        inner = MemoryRecordStore(clock)
        store = Store(WatchedRecordStore(inner, ends))
        first = accepted(0)
        one, joined = store.submit(first).id, store.submit(twin(first)).id
        old = store.claim([one], "worker", LEASE_S) if claimed else []
        try:
            change(Store(WatchedRecordStore(inner, ends, writes_left, backwards)), one)
            died = False
        except Crash:
            died, writes_left = True, writes_left + 1
        store = Store(WatchedRecordStore(inner, ends))
        for claim in old:
            store.publish(claim, f"video of {claim.request.fingerprint}".encode(), {})
        clock.pass_(700)
        drain_all(store)
        mine, theirs = store.request(one), store.request(joined)
        assert mine.state == theirs.state == "done"
        assert mine.accepted is not None
        prompts.add(mine.accepted.at_last.prompt)
        for record, fingerprint in ((mine, mine.accepted.fingerprint), (theirs, first.fingerprint)):
            assert store.read_video(record.video or "") == f"video of {fingerprint}".encode()
        store.recover()
        assert store.waiting() == [] and list(store._queue.entries()) == [] and set(ends.values()) == {1}
    assert writes_left > 1
    assert prompts == ({"a red ball", "a blue ball"} if change is fork_one else {"a red ball"})


def test_a_request_that_another_version_takes_over_keeps_its_id_and_its_turn(store):
    one, behind = store.submit(accepted(0)), store.submit(accepted(1))
    other = accept(accepted(0).request, SPEC, OTHER, label="other@1")
    with pytest.raises(InvalidRequest):
        store.transfer(one.id, lambda asked: accept(Request(prompt=""), SPEC, OTHER))
    moved = store.transfer(one.id, lambda asked: other.model_copy(update={"id": asked.id}))
    assert (moved.id, moved.turn, moved.version_digest, moved.label) == (one.id, one.turn, OTHER, "other@1")
    assert [record.id for record in store.waiting(model_digest=OTHER)] == [one.id]
    assert [record.id for record in store.waiting(model_digest=DIGEST)] == [behind.id]
    (claim,) = store.claim([one.id], "worker", LEASE_S)
    store.publish(claim, b"other", claim.facts())
    assert store.read_video(store.request(one.id).video) == b"other"
    with pytest.raises(StoreConflict):
        store.transfer(one.id, lambda asked: asked)


def test_a_request_that_goes_to_another_version_does_not_end_with_what_failed_there_before(store):
    other = accept(accepted(0).request, SPEC, OTHER, label="other@1")
    store.submit(other)
    (claim,) = store.claim([other.id], "worker", LEASE_S)
    store.fail(claim, "the device was broken", retry=False)
    one = store.submit(accepted(0))
    moved = store.transfer(one.id, lambda asked: other.model_copy(update={"id": asked.id}))
    assert (moved.state, moved.version_digest) == ("queued", OTHER)
    (claim,) = store.claim([one.id], "worker", LEASE_S)
    assert claim.attempt == 1
    store.publish(claim, b"other", claim.facts())
    assert [store.request(each.id).state for each in (one, other)] == ["done", "failed"]
