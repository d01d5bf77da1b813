"""The community edition brings deleted records back when a node restarts: they are there, and they are not served."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import aerospike
import pytest
from aerospike import exception

from tests.faults.servers import DEVELOPMENT
from tests.fixtures.servers import Node, aerospike_server
from tests.store.builders import accepted
from videogen.errors import LeaseLost, RecordExpired, StoreConflict
from videogen.store.generations import Generations
from videogen.store.primitives import Write
from videogen.store.records import Champion, Claim, RequestRecord, StoreLimits
from videogen.store.store import Store
from videogen.store.videos import Videos

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]
KEEP_S = 2.0
FLUSHED_S = 0.5
LEASE_S = 1.0
MODEL = "videogen-tiny"
EXPIRED, FAILED, CANCELLED, HELD = range(4)


@dataclass
class World:
    """A store after its records were deleted and its node was killed and started again."""

    store: Store
    requests: list[RequestRecord]
    video: str
    batch: str
    claim: Claim
    returned: list[tuple[str, str]]
    """Kind and key of each record that had been deleted and is there again, by the server's own client."""


def lived(store: Store) -> World:
    """One request answered with a video that expires, one failed, one cancelled, one being made; a champion moved."""
    requests = [store.submit(accepted(seed)) for seed in range(4)]
    ids = [request.id for request in requests]
    store.cancel(ids[CANCELLED])
    batch = store.seal_batch(ids[:2], 60.0)
    for claim in store.claim(batch.id, "run", 60.0):
        if claim.request.id == ids[FAILED]:
            store.fail(claim, "no", retry=False)
        else:
            video = store.publish(claim, b"a video", {}).digest
            keep_longer = Write("generation", claim.generation, (), "never", ttl=3600.0)
            store.records.write(keep_longer)  # as one of more generous limits would have
    store.finish_batch(batch.id, "run")
    (held,) = store.claim([ids[HELD]], "dead", LEASE_S)
    for version, generation in (("a", 0), ("b", 1)):
        store.promote(MODEL, Champion(version * 64, f"{MODEL}@{version}"), generation)
    return World(store, requests, video, batch.id, held, [])


def names(world: World) -> list[tuple[str, str]]:
    found = [("video", world.video), ("chunk", f"{world.video}/000000"), ("batch", world.batch), ("champion", MODEL)]
    for request in world.requests:
        found += [("request", request.id)]
    found += [("generation", world.requests[which].generation) for which in (EXPIRED, FAILED, HELD)]
    return found


def are_there(node: Node, wanted: list[tuple[str, str]], remove: bool = False) -> list[tuple[str, str]]:
    """Those that the server holds, by its own client; with `remove`, deletes them first."""
    client = aerospike.client({"hosts": [("127.0.0.1", node.port)]})
    found = []
    for kind, key in wanted:
        if remove:
            client.remove(("videogen", kind, key))
        try:
            client.get(("videogen", kind, key))
            found.append((kind, key))
        except exception.RecordNotFound:
            continue
    client.close()
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    limits = StoreLimits(keep_videos=KEEP_S, local_cache_bytes=0)
    with aerospike_server(DEVELOPMENT, tmp_path_factory.mktemp("node")) as node:
        with Store.open(node.url(), limits) as store:
            world = lived(store)
            time.sleep(KEEP_S + FLUSHED_S)
            assert len(are_there(node, names(world))) == len(names(world)), "all of it is written, and nothing deleted"
            assert are_there(node, names(world), remove=True) == []
        node.stop()
        node.start()
        world.returned = are_there(node, names(world))
        with Store.open(node.url(), limits) as world.store:
            yield world


def test_deleted_records_do_come_back(world):
    assert world.returned == names(world)


def test_a_video_that_expired_is_not_served(world, monkeypatch):
    with pytest.raises(RecordExpired):
        world.store.read_video(world.video)
    with pytest.raises(RecordExpired):
        world.store.stream_video(world.video)
    monkeypatch.setattr(Videos, "_expires_at", lambda *_: float("inf"))
    assert world.store.read_video(world.video) == b"a video", "its own expiry, and nothing else, kept it back"


def test_a_finished_generation_answers_nobody_with_a_video_that_expired(world, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(Videos, "_expires_at", lambda *_: float("inf"))
        assert world.store.submit(accepted(EXPIRED)).video == world.video
    again = world.store.submit(accepted(EXPIRED))
    assert again.state == "queued" and again.video is None
    world.store.cancel(again.id)


def test_a_failed_generation_does_not_fail_who_asks_again(world, monkeypatch):
    with monkeypatch.context() as without:
        without.setattr(Generations, "reopen", lambda *_: None)
        assert world.store.submit(accepted(FAILED)).state == "failed"
    again = world.store.submit(accepted(FAILED))
    assert again.state == "queued"
    (claim,) = world.store.claim([again.id], "next", 60.0)
    assert claim.attempt == 1
    world.store.publish(claim, b"another video", {})
    assert world.store.request(again.id).state == "done"


def test_a_cancelled_request_is_not_made(world):
    cancelled = world.requests[CANCELLED]
    live = world.store._queue.live
    world.store.records.write(live.put("batch", cancelled.turn, cancelled.id))  # as an older index would have it
    assert cancelled.id in [entry.request_id for entry in live.entries("batch")]
    assert cancelled.id not in [record.id for record in world.store.waiting()]
    assert world.store.claim([cancelled.id], "next", 60.0) == []
    with pytest.raises(StoreConflict):
        world.store.seal_batch([cancelled.id], 60.0)
    assert cancelled.id in world.store.recover().ended_requests
    assert world.store.request(cancelled.id).state == "cancelled"
    assert cancelled.id not in [entry.request_id for entry in live.entries("batch")]


def test_a_finished_batch_is_not_drained_again(world):
    assert world.store.claim(world.batch, "next", 60.0) == []
    assert world.store.batch(world.batch).state == "finished"


def test_a_lease_does_not_live_again(world):
    (claim,) = world.store.claim([world.requests[HELD].id], "next", 60.0)
    assert claim.attempt == 2
    with pytest.raises(LeaseLost):
        world.store.publish(world.claim, b"a dead worker's video", {})


def test_a_champion_is_the_last_that_was_set(world):
    champion = world.store.champion(MODEL)
    assert (champion.label, champion.generation) == (f"{MODEL}@b", 2)
