import pytest

from tests.store.builders import DIGEST, accepted, drain_all, memory_store, put_video
from videogen.errors import InvalidRequest, RecordNotFound
from videogen.requests import new_id
from videogen.store.idempotency import Idempotency
from videogen.store.primitives import Set, Write
from videogen.store.records import StoreLimits


@pytest.fixture
def store(clock):
    return memory_store(clock)


def again(request, **fields):
    """The same wish, asked for anew."""
    inner = request.request.model_copy(update=fields)
    return request.model_copy(update={"id": new_id(), "request": inner})


def claim_one(store, request_id, holder="w"):
    (claim,) = store.claim([request_id], holder, 60.0)
    return claim


def test_a_submitted_request_waits_and_knows_what_was_asked(store, clock):
    asked = accepted(deadline=60, metadata={"job": "x"})
    record = store.submit(asked, "test")
    assert (record.state, record.accepted, record.source, record.batch) == ("queued", asked, "test", None)
    assert record.deadline_at == clock() + 60
    assert store.waiting() == [record] == store.requests()
    with pytest.raises(RecordNotFound):
        store.request("none")


def test_the_turn_is_by_priority_then_age_within_a_lane(store):
    asked = [accepted(i, priority=p) for i, p in enumerate(["batch", "standard", "interactive", "standard"])]
    ids = [f"01{i}" for i in range(4)]
    for request, name in zip(asked, ids, strict=True):
        store.submit(request.model_copy(update={"id": name}))
    other = store.submit(accepted(9, lane="interactive"))
    assert [record.id for record in store.waiting()] == ["012", "011", "013", "010"]
    assert [record.id for record in store.waiting(limit=2)] == ["012", "011"]
    assert store.waiting("interactive") == [other]


def test_waiting_looks_past_those_that_cannot_be_taken(store):
    for seed in range(150):
        store.submit(accepted(seed))
    taken = [record.id for record in store.waiting(limit=130)]
    store.seal_batch(taken, 60.0)
    late = store.submit(accepted(999, digest="e" * 64))
    assert len(store.waiting(limit=100)) == 21
    assert store.waiting(model_digest="e" * 64) == [late]


def test_a_finished_video_answers_the_same_request_at_once(store):
    first = accepted()
    store.submit(first)
    video = store.publish(claim_one(store, first.id), b"mp4", {"engine": "cpu"})
    second = store.submit(again(first))
    assert (second.state, second.video) == ("done", video.digest)
    assert store.waiting() == [] and {r.id for r in store.requests(["done"])} == {first.id, second.id}


def test_a_running_generation_answers_those_who_join_it(store):
    first = accepted()
    store.submit(first)
    claim = claim_one(store, first.id)
    store.renew([claim], 0.25)
    joined = store.submit(again(first))
    assert (joined.state, joined.progress) == ("running", 0.25)
    assert store.waiting() == [] and store.claim([joined.id], "other", 60.0) == []
    video = store.publish(claim, b"mp4", {})
    assert {store.request(r).video for r in (first.id, joined.id)} == {video.digest}


def test_tenants_share_videos_only_if_they_are_told_to(clock):
    for share, state in ((False, "queued"), (True, "done")):
        store = memory_store(clock, StoreLimits(share_between_tenants=share))
        first = accepted()
        store.submit(first)
        store.publish(claim_one(store, first.id), b"mp4", {})
        assert store.submit(again(first, tenant="other")).state == state


def test_the_same_id_twice_is_one_request(store):
    asked = accepted()
    store.submit(asked)
    assert store.submit(asked) == store.request(asked.id) and len(store.requests()) == 1
    assert len(store.waiting()) == 1, "it stands in the queue once"
    store.cancel(asked.id)
    assert store.submit(asked).state == "cancelled" and store.waiting() == []
    store.recover()
    assert [record.state for record in store.requests()] == ["cancelled"]


def test_the_turn_of_a_submission_that_died_is_given_up(store, clock):
    asked = accepted()
    store.records.write(store._queue.live.put("batch", f"{1:015d}", asked.id))
    record = store.submit(asked)
    store.recover()
    assert store.waiting() == [record] and store.position(asked.id) == 0


def test_cancel_acts_on_the_request_and_work_stops_when_none_is_left(store):
    first, second = accepted(), again(accepted())
    store.submit(first), store.submit(second)
    claim = claim_one(store, first.id)
    assert store.cancel(first.id).state == "cancelled"
    assert store.renew([claim]).kept == (claim,)
    store.cancel(second.id)
    assert store.renew([claim]).unwanted == (claim,)
    assert store.cancel(second.id).state == "cancelled"


def test_a_version_is_awaited_while_a_request_for_it_lives_whoever_makes_it(store):
    old = accepted(1, "a" * 64, lane="interactive")
    for asked in (old, accepted(2, "b" * 64, lane="interactive"), accepted(3, "c" * 64)):
        store.submit(asked)
    assert [store.is_awaited(one * 64) for one in "abc"] == [True, True, False]
    claim = claim_one(store, old.id)
    assert store.is_awaited("a" * 64), "whoever makes it may die"
    store.publish(claim, b"mp4", {})
    assert not store.is_awaited("a" * 64)


def test_cancelling_what_is_done_changes_nothing(store):
    first = accepted()
    store.submit(first)
    store.publish(claim_one(store, first.id), b"mp4", {})
    assert store.cancel(first.id).state == "done"


@pytest.mark.parametrize("started", [False, True])
def test_a_request_that_passes_its_deadline_fails_visibly(store, clock, started):
    asked = accepted(deadline=10)
    store.submit(asked)
    claims = [claim_one(store, asked.id)] if started else []
    clock.pass_(9)
    assert store.request(asked.id).is_live
    clock.pass_(1)
    assert store.waiting() == []
    record = store.request(asked.id)
    assert record.state == "expired" and "deadline" in record.error and record.ended_at == clock()
    assert store.renew(claims).unwanted == tuple(claims)


def test_a_video_that_was_in_time_is_not_late_because_nobody_looked(store, clock):
    asked = accepted(deadline=10)
    store.submit(asked)
    claim = claim_one(store, asked.id)
    store._leases.generations.finish(claim, put_video(store._videos, claim.generation, b"mp4"))  # and then it crashed
    clock.pass_(100)
    assert store.request(asked.id).state == "done"


def test_records_that_ended_are_kept_for_a_while(store, clock):
    asked = accepted()
    store.submit(asked)
    store.cancel(asked.id)
    clock.pass_(6 * 86_400)
    assert store.requests(["cancelled"])
    clock.pass_(2 * 86_400)
    assert store.requests() == []
    live = store.submit(accepted(2))
    clock.pass_(400 * 86_400)
    assert store.request(live.id).state == "queued"


def test_a_damaged_record_fails_visibly_and_blocks_nobody(store):
    asked = [accepted(seed) for seed in range(3)]
    for request in asked:
        store.submit(request)
    store.records.write(Write("request", asked[0].id, (Set("state", 17),)))
    store.records.write(Write("request", asked[1].id, (Set("accepted", "{"),)))
    drain_all(store)
    states = [store.request(request.id) for request in asked]
    assert [record.state for record in states] == ["failed", "failed", "done"]
    assert all("damaged" in record.error for record in states[:2])
    store.recover()
    assert store.requests(["queued", "assigned", "running"]) == []


def test_a_damaged_generation_is_made_again(store):
    asked = accepted()
    store.submit(asked)
    claim = claim_one(store, asked.id)
    store.records.write(Write("generation", claim.generation, (Set("attempt", "many"),)))
    drain_all(store)
    assert store.request(asked.id).state == "done"


def test_submission_of_a_digest_filter_is_exact(store):
    store.submit(accepted(1))
    assert store.waiting(model_digest=DIGEST) and not store.waiting(model_digest=DIGEST[:10])


def test_who_joins_a_generation_that_nobody_makes_yet_is_not_its_first(store):
    first, second, other = (
        store.submit(accepted(seed).model_copy(update={"id": f"0{number}"})) for number, seed in enumerate((0, 0, 1))
    )
    assert [store.is_first(one) for one in (first, second, other)] == [True, False, True]
    store.cancel(first.id)
    assert store.is_first(second)


def test_a_key_is_kept_for_its_request_before_that_is_submitted(store):
    key, asked = Idempotency("k", "body"), accepted()
    assert store.known(key, asked.request.tenant) is None
    assert store.reserve(key, asked) == asked.id == store.reserve(key, again(asked))
    assert store.known(key, asked.request.tenant) == asked.id
    assert store.submit(again(asked), idempotency=key).id == asked.id
    with pytest.raises(InvalidRequest, match="idempotency_key"):
        store.reserve(Idempotency("k", "other"), again(asked))
