"""The store's own logic on every backend: what only a real server can get wrong."""

import threading
import time
from collections.abc import Callable

import pytest

from tests.store.builders import accepted, drain_all
from videogen.errors import LeaseLost, StoreConflict
from videogen.store.primitives import RecordStore
from videogen.store.records import Champion, StoreLimits
from videogen.store.store import Store

OpenMore = Callable[[], RecordStore]


@pytest.fixture
def store(records: RecordStore) -> Store:
    return Store(records, StoreLimits(max_attempts=3))


def test_workers_that_share_a_batch_answer_everything_once(backend_url, store, open_more: OpenMore):
    if backend_url == "memory:":
        pytest.skip("it is in the memory of one process")
    ids = [store.submit(accepted(seed % 20)).id for seed in range(60)]
    batch, stop = store.seal_batch(ids, 60.0), threading.Event()
    published: list[str] = []

    def work(number: int) -> None:
        mine = Store(open_more())
        while not stop.is_set():
            try:
                claims = mine.claim(batch.id, "drainer", 30.0, limit=3)
            except StoreConflict:
                return
            if not claims:
                return
            for claim in claims:
                mine.publish(claim, f"video of {claim.request.fingerprint}".encode(), {"worker": number})
                published.append(claim.generation)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert sorted(published) == sorted(set(published)) and len(published) == 20
    assert {record.state for record in store.batch_requests(batch.id)} == {"done"}
    for record in store.batch_requests(batch.id):
        assert store.read_video(record.video or "") == f"video of {record.accepted.fingerprint}".encode()


def test_a_lease_that_ran_out_is_another_s_and_its_late_holder_is_refused(store):
    one = store.submit(accepted()).id
    batch = store.seal_batch([one], 60.0)
    (late,) = store.claim(batch.id, "slow", 0.5, limit=1)
    with pytest.raises(StoreConflict):
        store.claim(batch.id, "quick", 30.0, limit=1)
    assert store.request(one).state == "running"
    time.sleep(0.7)
    store.recover()
    batch = store.seal_batch([one], 60.0)
    (claim,) = store.claim(batch.id, "quick", 30.0, limit=1)
    assert claim.attempt == 2
    with pytest.raises(LeaseLost):
        store.publish(late, b"late", {})
    store.publish(claim, b"in time", {})
    assert store.read_video(store.request(one).video or "") == b"in time"


def test_a_renewed_lease_holds(store):
    one = store.submit(accepted()).id
    batch = store.seal_batch([one], 60.0)
    claims = store.claim(batch.id, "worker", 0.6, limit=1)
    for _ in range(4):
        time.sleep(0.3)
        store.renew_batch(batch.id, "worker")
        assert not store.renew(claims, 0.5).lost
    assert store.request(one).progress == 0.5
    store.publish(claims[0], b"video", {})
    assert store.finish_batch(batch.id, "worker").state == "finished"


def test_everything_that_was_submitted_ends(store):
    ids = [store.submit(accepted(seed, priority=priority)).id
           for seed in range(5) for priority in ("interactive", "batch")]  # fmt: skip
    store.cancel(ids[0])
    drain_all(store)
    states = [store.request(one).state for one in ids]
    assert states[0] == "cancelled" and set(states[1:]) == {"done"}
    assert store.waiting() == [] and len(store.requests(limit=100)) == 10


def test_a_video_of_several_chunks_is_whole_or_not_there(store):
    mp4 = bytes(range(256)) * 10_000
    one = store.submit(accepted()).id
    batch = store.seal_batch([one], 60.0)
    (claim,) = store.claim(batch.id, "worker", 60.0, limit=1)
    video = store.publish(claim, mp4, {"engine": "none"})
    assert store.read_video(video.digest) == mp4 and store.video(video.digest).provenance["engine"] == "none"


def test_of_two_promotions_from_one_generation_one_wins(store):
    champions = [Champion(digest * 64, f"m@{digest}", {}) for digest in "12"]
    assert store.promote("m", champions[0], 0).generation == 1
    won: list[str] = []

    def promote(champion: Champion) -> None:
        try:
            won.append(store.promote("m", champion, 1).label)
        except StoreConflict:
            return

    others = [Champion(digest * 64, f"m@{digest}", {}) for digest in "3456"]
    threads = [threading.Thread(target=promote, args=(champion,)) for champion in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1 and store.champion("m").label == won[0]
    assert store.rollback("m").label == "m@1"
    assert [move.action for move in store.champion_history("m")] == ["promote", "promote", "rollback"]
