import pytest

from tests.store.builders import accepted, memory_store
from videogen.errors import InvalidRequest, LeaseLost, RecordNotFound, StoreConflict
from videogen.requests import new_id
from videogen.store.batches import batch_id
from videogen.store.primitives import MapPut, Set, Write
from videogen.store.records import StoreLimits


@pytest.fixture
def store(clock):
    return memory_store(clock)


def submit(store, count=3):
    asked = [accepted(seed) for seed in range(count)]
    for request in asked:
        store.submit(request)
    return [request.id for request in asked]


def states(store, ids):
    return [store.request(one).state for one in ids]


def publish_all(store, batch, holder="run"):
    while claims := store.claim(batch.id, holder, 60.0):
        for claim in claims:
            store.publish(claim, claim.generation.encode(), {})


def test_a_batch_takes_its_requests_out_of_the_queue(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    assert (batch.state, batch.attempt, set(batch.request_ids)) == ("sealed", 1, set(ids))
    assert (batch.label, batch.version_digest) == ("videogen-tiny@d", "d" * 64)
    assert states(store, ids) == ["assigned"] * 3 and store.waiting() == []
    assert store.claim(ids, "service", 60.0) == [], "only the batch's run may take them"
    assert store.batches("sealed") == [batch] == store.batches()


def test_the_id_follows_from_the_request_ids():
    ids = ["01a20be8-0000-7000-8000-000000000000", "01a20be9-0000-7000-8000-000000000000"]
    assert batch_id(ids) == batch_id(ids[::-1]) == batch_id(ids * 2) != batch_id(ids[:1])
    assert batch_id(ids).startswith("20261124T") and batch_id(ids)[15:17] == "Z-"
    with pytest.raises(InvalidRequest):
        batch_id([])


def test_sealing_the_same_requests_again_is_the_same_batch(store):
    ids = submit(store)
    assert store.seal_batch(ids, 60.0) == store.seal_batch(ids[::-1], 60.0)
    store.claim(batch_id(ids), "run", 60.0)
    assert store.seal_batch(ids, 60.0).state == "running"


def test_a_batch_is_of_one_version_and_not_empty(store):
    ids = submit(store)
    store.submit(other := accepted(9, digest="e" * 64))
    with pytest.raises(StoreConflict, match="videogen-tiny@d, videogen-tiny@e"):
        store.seal_batch([*ids, other.id], 60.0)
    store.seal_batch(ids, 60.0)
    with pytest.raises(StoreConflict, match="none that waits"):
        store.seal_batch(ids[:2], 60.0)


def test_two_batches_never_hold_one_request(store):
    ids = submit(store, 4)
    store.seal_batch(ids[:2], 60.0)
    second = store.seal_batch(ids, 60.0)
    assert set(second.request_ids) == set(ids[2:])


def test_a_drained_batch_is_finished_and_its_requests_answered(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    publish_all(store, batch)
    assert store.finish_batch(batch.id, "run").state == "finished"
    assert {record.state for record in store.batch_requests(batch.id)} == {"done"}
    assert store.batches("sealed") == [] and store.batches("finished")[0].id == batch.id
    assert store.claim(batch.id, "run 2", 60.0) == []


def test_one_run_at_a_time_drains_a_batch(store, clock):
    batch = store.seal_batch(submit(store), 60.0)
    store.claim(batch.id, "a", 60.0, limit=1)
    with pytest.raises(StoreConflict, match="running, held by a"):
        store.claim(batch.id, "b", 60.0)
    clock.pass_(59)
    store.renew_batch(batch.id, "a")
    clock.pass_(59)
    with pytest.raises(StoreConflict):
        store.claim(batch.id, "b", 60.0)
    clock.pass_(1)
    assert store.claim(batch.id, "b", 60.0)
    for call in (store.renew_batch, store.finish_batch):
        with pytest.raises(LeaseLost, match="a no longer drains"):
            call(batch.id, "a")


def test_a_batch_that_no_run_starts_gives_its_requests_back(store, clock):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    clock.pass_(59)
    assert store.recover().returned_batches == ()
    clock.pass_(1)
    assert store.recover().returned_batches == (batch.id,)
    assert states(store, ids) == ["queued"] * 3
    assert "no run started" in store.batch(batch.id).error
    again = store.seal_batch(ids, 60.0)
    assert (again.id, again.attempt, again.state) == (batch.id, 2, "sealed")


def test_a_batch_whose_run_died_gives_back_what_was_not_answered(store, clock):
    ids = submit(store)
    batch = store.seal_batch(ids, 600.0)
    claims = store.claim(batch.id, "run", 60.0, limit=2)
    store.publish(claims[0], b"mp4", {})
    clock.pass_(60)
    assert store.recover().returned_batches == (batch.id,)
    assert sorted(states(store, ids)) == ["done", "queued", "queued"]


def test_a_run_that_is_known_to_be_dead_is_not_waited_for(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 600.0)
    (claim, *_) = store.claim(batch.id, "run", 600.0)
    assert store.give_back(batch.id, "the run failed", holder="another").state == "running"
    assert store.give_back(batch.id, "the run failed", holder="run").state == "returned"
    assert states(store, ids) == ["queued"] * 3
    with pytest.raises(LeaseLost):
        store.publish(claim, b"mp4", {})
    assert store.batch(batch.id).error == "the run failed"
    assert store.give_back(batch.id, "again").error == "the run failed"


def test_a_returned_batch_can_be_drained_after_all(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 600.0)
    store.give_back(batch.id, "the run failed")
    taken = store.seal_batch(ids[:1], 600.0)
    assert len(store.claim(batch.id, "run", 60.0)) == 2
    assert set(store.batch(batch.id).request_ids) == set(ids[1:]) and store.batch(batch.id).attempt == 2
    assert taken.request_ids == (ids[0],)


def test_a_returned_batch_of_which_nothing_is_left_gives_no_claims(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 600.0)
    store.give_back(batch.id, "the run failed")
    for one in ids:
        store.cancel(one)
    assert store.claim(batch.id, "run", 60.0) == []


def test_a_cancelled_request_leaves_its_batch_without_a_claim(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    store.cancel(ids[0])
    assert len(store.claim(batch.id, "run", 60.0)) == 2


def test_what_a_finished_drain_left_waits_again(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    (claim,) = store.claim(batch.id, "run", 60.0, limit=1)
    store.publish(claim, b"mp4", {})
    store.finish_batch(batch.id, "run")
    assert sorted(states(store, ids)) == ["done", "queued", "queued"]


def test_a_request_that_no_run_ever_answers_fails_visibly(clock):
    store = memory_store(clock, StoreLimits(max_assignments=3))
    ids = submit(store, 1)
    for _ in range(3):
        store.give_back(store.seal_batch(ids, 60.0).id, "no luck")
    with pytest.raises(StoreConflict, match="took all"):
        store.seal_batch(ids, 60.0)
    record = store.request(ids[0])
    assert record.state == "failed" and "3 batches" in record.error


def test_a_request_that_joined_anothers_work_is_answered_by_it(store):
    first = accepted()
    store.submit(first)
    (claim,) = store.claim([first.id], "service", 60.0)
    twin = first.model_copy(update={"id": new_id()})
    store.submit(twin)
    with pytest.raises(StoreConflict):
        store.seal_batch([twin.id], 60.0)
    store.publish(claim, b"mp4", {})
    assert store.request(twin.id).state == "done"


def test_a_damaged_batch_gives_its_requests_back(store):
    ids = submit(store)
    batch = store.seal_batch(ids, 60.0)
    store.records.write(Write("batch", batch.id, (Set("request_ids", "all"),)))
    assert store.batches() == []
    found = store.recover()
    assert found.returned_batches == (batch.id,) and set(found.requeued_requests) == set(ids)
    assert states(store, ids) == ["queued"] * 3
    assert store.recover().requeued_requests == ()


def test_an_entry_that_never_became_a_batch_is_dropped_in_time(store, clock):
    store.records.write(Write("open-batches", "all", (MapPut("20261123T081500Z-1a2b3c4d", repr(clock())),)))
    store.recover()
    assert store._batches.open_entries()
    clock.pass_(601)
    store.recover()
    assert store._batches.open_entries() == []
    with pytest.raises(RecordNotFound):
        store.batch("20261123T081500Z-1a2b3c4d")


def test_the_order_of_the_requests_is_kept(store):
    ids = submit(store, 6)
    order = [ids[i] for i in (3, 1, 4, 0, 5, 2)]
    batch = store.seal_batch(order, 60.0)
    assert list(batch.request_ids) == order
    assert [claim.request.id for claim in store.claim(batch.id, "run", 60.0)] == order
