"""Several submissions, or publications, in one call: each ends as it would alone."""

from collections import Counter
from contextlib import closing, contextmanager
from hashlib import sha256

import pytest

from tests.store.builders import accepted
from tests.store.crashing import WatchedRecordStore
from videogen.errors import InvalidRequest, LeaseLost, StoreUnavailable
from videogen.requests import new_id
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.idempotency import Idempotency
from videogen.store.primitives import MapPut, RecordStore, Write
from videogen.store.records import Made, NewRequest, Published, Receipt
from videogen.store.store import Store


@pytest.fixture
def store(records: RecordStore) -> Store:
    """On each of the backends."""
    return Store(records)


def taken(asked, holder="a", **fields) -> NewRequest:
    return NewRequest(asked, "service", holder=holder, lease_s=60.0, **fields)


def test_what_is_submitted_together_waits_joins_or_is_answered_as_it_would_alone(store):
    first, other = accepted(1), accepted(2)
    twin = first.model_copy(update={"id": new_id()})
    found = store.submit_all([taken(first), taken(twin), NewRequest(other), taken(first)])
    assert all(isinstance(one, Receipt) for one in found)
    (claim,) = found[0].claims
    assert [one.claims for one in found[1:]] == [[], [], []], "one generation, one lease"
    assert [one.record.id for one in found] == [first.id, twin.id, other.id, first.id]
    assert found[1].record.joined and found[1].record.state == "running"
    store.publish_all([Made(claim, b"mp4", {})])
    again = first.model_copy(update={"id": new_id()})
    (answered,) = store.submit_all([taken(again)])
    assert (answered.record.state, answered.claims) == ("done", [])
    assert store.request(again.id) == answered.record


def test_one_key_is_one_request_also_where_it_comes_twice_at_once(store):
    asked = accepted(1)
    same = asked.model_copy(update={"id": new_id()})
    key, otherwise = Idempotency("k", "body"), Idempotency("k", "another body")
    found = store.submit_all(
        [taken(asked, idempotency=key), taken(same, idempotency=key), taken(accepted(2), idempotency=otherwise)]
    )
    assert [one.record.id for one in found[:2]] == [asked.id, asked.id]
    assert [len(one.claims) for one in found[:2]] == [1, 0]
    assert isinstance(found[2], InvalidRequest)
    assert store.find([same.id]) == [None]
    (known,) = store.submit_all([taken(same, idempotency=key)])
    assert known.record.id == asked.id


def test_who_lost_a_lease_publishes_nothing_and_the_others_do(store):
    asked = [accepted(1), accepted(2)]
    (late, mine) = (one.claims[0] for one in store.submit_all([taken(one) for one in asked]))
    joined = asked[1].model_copy(update={"id": new_id()})
    store.submit(joined)
    store.release([late])
    (other,) = store.claim([asked[0].id], "b", 60.0)
    lost, published = store.publish_all([Made(late, b"late", {}), Made(mine, b"mp4", {"engine": "cpu"})])
    assert isinstance(lost, LeaseLost) and isinstance(published, Published)
    assert store.request(asked[0].id).state == "running"
    assert {one.id for one in published.ended} == {asked[1].id, joined.id}
    assert [store.request(one.id) for one in published.ended] == published.ended
    assert published.video == store.video(published.video.digest, mine.generation)
    held = store.held_video(published.video.digest)
    assert held == b"mp4" if not store.records.asks_a_server else held in (None, b"mp4")
    assert store.read_video(published.video.digest) == b"mp4"
    assert store.publish(other, b"in time", {}).digest == store.request(asked[0].id).video


class Watched(WatchedRecordStore):
    """Counts the blocks of writes, and fails the writes of a key as a backend does that is away."""

    fails: str | None = None

    def __init__(self, inner: RecordStore) -> None:
        super().__init__(inner, Counter())
        self.depth = self.blocks = 0

    @contextmanager
    def together(self):
        self.blocks += not self.depth
        self.depth += 1
        try:
            with super().together():
                yield
        finally:
            self.depth -= 1

    def write_many(self, writes):
        if any(write.key == self.fails for write in writes):
            raise StoreUnavailable("no answer")
        return super().write_many(writes)


def test_a_backend_that_has_blocks_gets_one_and_one_that_fails_in_it_leaves_nothing(tmp_path):
    with closing(EmbeddedRecordStore(tmp_path)) as records:
        watched = Watched(records)
        store, asked = Store(watched), [accepted(seed) for seed in range(4)]
        (first, second) = store.submit_all([taken(one) for one in asked[:2]])
        assert watched.blocks == 1
        store.publish_all([Made(first.claims[0], b"1", {}), Made(second.claims[0], b"2", {})])
        assert watched.blocks == 2
        watched.fails = asked[3].id
        with pytest.raises(StoreUnavailable):
            store.submit_all([taken(one) for one in asked[2:]])
        watched.fails = None
        assert store.find([one.id for one in asked[2:]]) == [None, None]
        assert store.line("interactive", 10).keys == store.line("batch", 10).keys == [], "a part of a block was kept"
        claims = [one.claims[0] for one in store.submit_all([taken(one) for one in asked[2:]])]
        watched.fails = claims[1].generation
        with pytest.raises(StoreUnavailable):
            store.publish_all([Made(claim, claim.generation.encode(), {}) for claim in claims])
        assert store.request(asked[2].id).state == "running"
        assert store.held_video(sha256(claims[0].generation.encode()).hexdigest()) is None


def test_a_fault_in_one_leaves_the_others(clock):
    class Faulty(MemoryRecordStore):
        def write_many(self, writes: list[Write]):
            if any(write.key == bad.id for write in writes):
                raise ValueError("a fault of ours")
            return super().write_many(writes)

    bad, good, other = accepted(1), accepted(2), accepted(3)
    store = Store(Faulty(clock))
    fault, found, third = store.submit_all([taken(bad), taken(good), taken(other)])
    assert isinstance(fault, ValueError) and isinstance(found, Receipt) and found.claims
    no_bytes = Made(found.claims[0], None, {})
    fault, published = store.publish_all([no_bytes, Made(third.claims[0], b"mp4", {})])
    assert isinstance(fault, TypeError) and isinstance(published, Published)


def test_a_store_that_goes_away_after_a_block_was_written_takes_no_lease_with_it(clock):
    class Away(MemoryRecordStore):
        is_away = False

        def flush(self) -> None:
            super().flush()
            self.is_away = True

        def read_many(self, kind, keys, aged=False):
            if self.is_away:
                raise StoreUnavailable("no answer")
            return super().read_many(kind, keys, aged)

    first, other = accepted(1), accepted(2)
    twin = first.model_copy(update={"id": new_id()})
    found, joined, alone = Store(Away(clock)).submit_all([taken(first), taken(twin), taken(other)])
    assert found.claims and alone.claims, "leases that nobody hears of"
    assert isinstance(joined, StoreUnavailable), "how it stands is not known; it is in the store"


def test_a_video_ends_those_alone_that_it_was_made_for(clock):
    """A claimer that had read the list before may put who was asked otherwise meanwhile onto it again."""
    records = MemoryRecordStore(clock)
    store, asked = Store(records), [accepted(1), accepted(2)]
    mine, other = (one.claims[0] for one in store.submit_all([taken(one) for one in asked]))
    store.publish(other, b"of the other", {})
    records.write(Write("waiters", mine.generation, (MapPut(asked[1].id),)))
    (published,) = store.publish_all([Made(mine, b"mine", {})])
    assert [one.id for one in published.ended] == [asked[0].id]
