"""What waits for a version that no replica serves has an end."""

import time

from tests.serving.in_process import CALLER, run, served, until
from tests.store.builders import DIGEST, accepted
from videogen.requests import UNGATED
from videogen.serving.engine.messages import Synthetic
from videogen.serving.making.in_hand import Making
from videogen.serving.making.presence import Presence
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.servers import Server
from videogen.store.store import Store

OLD = "e" * 64
SHORT_S = 0.2


def test_what_waits_for_a_version_that_nobody_serves_any_more_fails_and_says_so():
    store = Store(MemoryRecordStore())
    old = store.submit(accepted(1, OLD, lane="interactive"))
    served_one, batch = store.submit(accepted(2, lane="interactive")), store.submit(accepted(3, OLD))
    presence = Presence(store, lambda: Server("me", frozenset({DIGEST}), 1.0), SHORT_S)
    presence.tell()
    time.sleep(SHORT_S + 0.05)
    presence.end_unserved()
    assert store.request(old.id).state == "queued", "for as long as it waits, somebody may come who serves it"
    time.sleep(SHORT_S + 0.05)
    presence.end_unserved()
    ended = store.request(old.id)
    assert ended.state == "failed"
    assert ended.error == "videogen-tiny@e is not served any more: submit the request again"
    assert [store.request(one.id).state for one in (served_one, batch)] == ["queued", "queued"]


def test_what_another_replica_serves_waits_for_that_one():
    store = Store(MemoryRecordStore())
    old = store.submit(accepted(1, OLD, lane="interactive"))
    presence = Presence(store, lambda: Server("me", frozenset({DIGEST}), 1.0), SHORT_S)
    store.servers.tell(Server("other", frozenset({OLD}), 1.0))
    for _ in range(3):
        time.sleep(SHORT_S + 0.05)
        presence.end_unserved()
    assert store.request(old.id).state == "queued"
    store.servers.leave("other")
    presence.end_unserved()
    assert store.request(old.id).state == "queued"
    time.sleep(SHORT_S + 0.05)
    presence.end_unserved()
    assert store.request(old.id).state == "failed"


def test_a_service_tells_what_it_serves_and_ends_what_nobody_does():
    store = Store(MemoryRecordStore())

    async def test() -> None:
        async with served(store, Synthetic(), Making(unserved_s=0.5)) as service:
            old = store.submit(accepted(1, OLD, lane="interactive"))
            await until(lambda: store.request(old.id).state == "failed")
            job = await service.submit({"prompt": "a red ring"}, CALLER)
            assert [one.versions for one in store.servers.live()] == [{UNGATED + job.version_digest}]
            assert store.servers.live()[0].per_second > 0
        assert store.servers.live() == []

    run(test)


def test_who_serves_a_version_without_gates_does_not_serve_those_that_ask_for_the_champion():
    store, asked = Store(MemoryRecordStore()), accepted(2, lane="interactive")
    gated = store.submit(accepted(1, lane="interactive"))
    ungated = store.submit(asked.model_copy(update={"fingerprint": UNGATED + asked.id}))
    presence = Presence(store, lambda: Server("me", frozenset({UNGATED + DIGEST}), 1.0), unserved_s=SHORT_S)
    presence.tell()
    ends = time.monotonic() + 30.0
    while store.request(gated.id).state == "queued" and time.monotonic() < ends:
        presence.end_unserved()
        time.sleep(SHORT_S)
    assert [store.request(one.id).state for one in (gated, ungated)] == ["failed", "queued"]
