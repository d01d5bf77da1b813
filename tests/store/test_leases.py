import hashlib

import pytest

from tests.store.builders import Clock, accepted, memory_store
from videogen.errors import LeaseLost, RecordDamaged, RecordNotFound, StoreUnavailable
from videogen.requests import new_id
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import MAX_PAYLOAD, Set, SetPayload, Write
from videogen.store.store import Store
from videogen.store.videos import CHUNK_BYTES


@pytest.fixture
def store(clock):
    return memory_store(clock)


def submit(store, count=1):
    asked = [accepted(seed) for seed in range(count)]
    for request in asked:
        store.submit(request)
    return [request.id for request in asked]


def test_a_claim_is_exclusive_while_its_lease_lasts(store, clock):
    ids = submit(store, 2)
    first = store.claim(ids, "a", 10.0)
    assert len(first) == 2 and store.claim(ids, "b", 10.0) == []
    clock.pass_(9)
    store.renew(first)
    clock.pass_(9)
    assert store.claim(ids, "b", 10.0) == []
    assert [store.request(one).state for one in ids] == ["running", "running"]


def test_whoever_is_late_is_fenced_off(store, clock):
    (request_id,) = submit(store)
    (late,) = store.claim([request_id], "a", 10.0)
    clock.pass_(10)
    assert store.request(request_id).state == "queued"
    (taken,) = store.claim([request_id], "b", 10.0)
    assert (taken.attempt, late.attempt) == (2, 1)
    assert store.renew([late]).lost == (late,)
    for write in (
        lambda: store.publish(late, b"late", {}),
        lambda: store.fail(late, "late", retry=False),
        lambda: store.fail(late, "late", retry=True),
    ):
        with pytest.raises(LeaseLost, match="a no longer holds"):
            write()
    store.release([late])
    video = store.publish(taken, b"mp4", {})
    assert store.request(request_id).video == video.digest == hashlib.sha256(b"mp4").hexdigest()
    with pytest.raises(LeaseLost):
        store.publish(late, b"later still", {})
    assert store.request(request_id).video == video.digest


def test_a_holder_that_was_late_but_not_replaced_may_still_publish(store, clock):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    clock.pass_(100)
    store.publish(claim, b"mp4", {})
    assert store.request(request_id).state == "done"


def test_publishing_twice_with_the_same_claim_is_one_video(store):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    assert store.publish(claim, b"mp4", {}) == store.publish(claim, b"mp4", {})
    with pytest.raises(LeaseLost):
        store.publish(claim, b"another", {})


def test_a_fault_that_may_pass_is_tried_again_and_then_fails_with_its_error(store, clock):
    (request_id,) = submit(store)
    for attempt in (1, 2, 3):
        (claim,) = store.claim([request_id], "a", 10.0)
        assert claim.attempt == attempt
        store.fail(claim, f"fault {attempt}", retry=True)
        assert store.claim([request_id], "a", 10.0) == []
        clock.pass_(store.limits.longest_retry)
    record = store.request(request_id)
    assert (record.state, record.error, record.attempts) == ("failed", "fault 3", 3)
    assert store.claim([request_id], "a", 10.0) == []


def test_a_fault_of_the_request_is_not_tried_again(store):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    store.fail(claim, "bad words", retry=False)
    assert store.request(request_id).error == "bad words"


def test_what_kills_every_holder_fails_visibly_with_the_number_of_attempts(store, clock):
    (request_id,) = submit(store)
    for _ in range(3):
        assert store.claim([request_id], "a", 10.0)
        clock.pass_(11)
    record = store.request(request_id)
    assert record.state == "failed" and "3 attempts" in record.error


def test_what_was_tried_before_is_claimed_alone_and_last(store, clock):
    ids = submit(store, 5)
    assert len(store.claim(ids[:3], "a", 10.0)) == 3
    clock.pass_(11)
    fresh = store.claim(ids, "b", 10.0)
    assert sorted(claim.request.id for claim in fresh) == sorted(ids[3:])
    alone = [store.claim(ids, "b", 10.0) for _ in range(4)]
    assert [len(claims) for claims in alone] == [1, 1, 1, 0]
    assert {claims[0].request.id for claims in alone[:3]} == set(ids[:3])


def test_a_limit_bounds_a_claim(store):
    ids = submit(store, 5)
    assert [len(store.claim(ids, "a", 10.0, limit=2)) for _ in range(4)] == [2, 2, 1, 0]


def test_a_released_lease_does_not_count_as_an_attempt(store):
    (request_id,) = submit(store)
    for _ in range(5):
        (claim,) = store.claim([request_id], "a", 10.0)
        assert claim.attempt == 1
        store.release([claim])
    with pytest.raises(LeaseLost):
        store.publish(claim, b"mp4", {})


def test_a_failed_request_can_be_asked_again(store):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    store.fail(claim, "no", retry=False)
    asked = claim.request.model_copy(update={"id": new_id()})
    assert store.submit(asked).state == "queued"
    (claim,) = store.claim([asked.id], "a", 10.0)
    assert claim.attempt == 1
    store.publish(claim, b"mp4", {})
    assert store.request(asked.id).state == "done" and store.request(request_id).state == "failed"


def test_two_requests_for_one_video_are_one_claim(store):
    asked = accepted()
    twin = asked.model_copy(update={"id": new_id()})
    store.submit(asked), store.submit(twin)
    assert len(store.claim([asked.id, twin.id], "a", 10.0)) == 1


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 10 * CHUNK_BYTES + 7])
def test_videos_of_any_size_come_back_whole(store, size):
    mp4 = bytes(i * 7 % 251 for i in range(1000)) * (size // 1000 + 1)
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    video = store.publish(claim, mp4[:size], {"engine": "cpu", "layers": [1, {"a": None}]})
    assert store.read_video(video.digest) == mp4[:size]
    assert (video.size, video.provenance) == (size, {"engine": "cpu", "layers": [1, {"a": None}]})
    assert CHUNK_BYTES <= MAX_PAYLOAD


def test_two_generations_of_the_same_bytes_keep_their_own_provenance(store):
    ids = submit(store, 2)
    claims = store.claim(ids, "a", 10.0)
    digests = {store.publish(claim, b"same", {"seed": claim.request.request.seed}).digest for claim in claims}
    (digest,) = digests
    seeds = {store.video(digest, claim.generation).provenance["seed"] for claim in claims}
    assert seeds == {0, 1}


def test_a_damaged_video_is_not_served_and_is_made_again(store):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    digest = store.publish(claim, b"mp4", {}).digest
    store.records.write(Write("chunk", f"{digest}/000000", (SetPayload(b"mp5"),)))
    with pytest.raises(RecordDamaged, match=digest):
        store.read_video(digest)
    with pytest.raises(RecordNotFound):
        store.read_video(digest)
    asked = claim.request.model_copy(update={"id": new_id()})
    assert store.submit(asked).state == "queued"
    (claim,) = store.claim([asked.id], "a", 10.0)
    store.publish(claim, b"mp4", {})
    assert store.read_video(digest) == b"mp4"


def test_a_video_that_was_removed_is_made_again(store, clock):
    (request_id,) = submit(store)
    (claim,) = store.claim([request_id], "a", 10.0)
    digest = store.publish(claim, b"mp4", {}).digest
    clock.pass_(31 * 86_400)
    with pytest.raises(RecordNotFound):
        store.video(digest)
    assert store.submit(claim.request.model_copy(update={"id": new_id()})).state == "queued"


@pytest.mark.parametrize("count", [128, 1024])
def test_what_a_drain_reads_for_a_request_does_not_grow_with_its_batch(count):
    class Counted(MemoryRecordStore):
        requests_read = 0

        def read_many(self, kind, keys, aged=False):
            self.requests_read += len(keys) if kind == "request" else 0
            return super().read_many(kind, keys, aged)

    records = Counted(Clock())
    store = Store(records)
    batch = store.seal_batch([store.submit(accepted(seed)).id for seed in range(count)], 600.0)
    read, answered = 0, 0
    while True:
        before = records.requests_read
        claims = store.claim(batch.id, "run", 10.0, limit=32)
        read += records.requests_read - before
        if not claims:
            break
        for claim in claims:
            store.publish(claim, claim.generation.encode(), {})
        answered += len(claims)
    assert answered == count and read < 5 * count


def test_what_is_submitted_may_be_claimed_in_the_same_breath(store, clock):
    asked = accepted(1)
    record, (claim,) = store.submit_and_claim(asked, "a", 10.0, "service")
    assert (record.id, record.state, record.source) == (asked.id, "queued", "service")
    assert (claim.holder, claim.attempt, claim.request) == ("a", 1, asked)
    assert store.request(asked.id).state == "running"
    twin = asked.model_copy(update={"id": new_id()})
    joined, none = store.submit_and_claim(twin, "b", 10.0)
    assert (joined.state, none) == ("running", [])
    video = store.publish(claim, b"mp4", {})
    assert {store.request(one).video for one in (asked.id, twin.id)} == {video.digest}
    again, none = store.submit_and_claim(asked.model_copy(update={"id": new_id()}), "b", 10.0)
    assert (again.state, again.video, again.progress, none) == ("done", video.digest, 1.0, [])
    assert store.request(again.id) == again


def test_what_rests_after_a_failure_is_not_claimed_by_who_asks_for_it_again(store, clock):
    asked = accepted(1)
    _, (claim,) = store.submit_and_claim(asked, "a", 10.0)
    store.fail(claim, "no luck", retry=True)
    twin, none = store.submit_and_claim(asked.model_copy(update={"id": new_id()}), "b", 10.0)
    assert (twin.state, none) == ("queued", [])


def test_a_submission_and_a_publication_cost_few_calls_of_the_backend(store):
    store.submit(accepted(2))  # looks at the lane's pace, which is remembered for a while
    calls = []
    for name in ("read_many", "write_many"):
        method = getattr(store.records, name)
        setattr(store.records, name, lambda *a, _n=name, _m=method, **k: (calls.append(_n), _m(*a, **k))[1])
    _, (claim,) = store.submit_and_claim(accepted(1), "a", 10.0)
    assert calls.count("read_many") == 2 and calls.count("write_many") == 4, calls
    calls.clear()
    store.publish(claim, b"mp4", {})
    assert calls.count("read_many") == 1 and calls.count("write_many") == 6, calls


def test_work_is_wanted_as_long_as_one_of_many_waits_for_it(store, clock):
    asked = [accepted(1).model_copy(update={"id": new_id()}) for _ in range(20)]
    _, (claim,) = store.submit_and_claim(asked[0], "a", 10.0)
    for one in asked[1:]:
        store.submit(one)
    _, (alone,) = store.submit_and_claim(accepted(2), "a", 10.0)
    for one in asked[:-1]:
        store.records.write(Write("request", one.id, (Set("state", "cancelled"),)))  # and then it crashed
    renewal = store.renew([claim, alone])
    assert renewal.kept == (claim, alone) and not renewal.unwanted
    store.cancel(asked[-1].id)
    renewal = store.renew([claim, alone])
    assert (renewal.kept, renewal.unwanted) == ((alone,), (claim,))


class FullDisk(MemoryRecordStore):
    """Takes writes, and cannot make them durable."""

    def flush(self) -> None:
        raise StoreUnavailable("no space left on device")


def test_a_request_that_was_not_made_durable_leaves_its_lease_to_others(clock):
    records, asked = FullDisk(clock), accepted(0)
    with pytest.raises(StoreUnavailable):
        Store(records).submit_and_claim(asked, "a", 60.0)
    (claim,) = Store(records).claim([asked.id], "b", 60.0)
    assert claim.attempt == 1
