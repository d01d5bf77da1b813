"""Which services live on a store, and what they tell of themselves."""

import json

from tests.store.builders import memory_store
from videogen.store.primitives import MapPut, Write
from videogen.store.servers import ALL, LIVE_S, Server, Servers

ONE = Server("one", frozenset({"a", "b"}), 2.5)
TWO = Server("two", frozenset({"b"}), 10.0)


def test_who_tells_lives_until_it_leaves_or_is_silent_for_too_long(clock):
    store = memory_store(clock)
    assert store.servers.live() == []
    store.servers.tell(ONE)
    clock.pass_(LIVE_S - 1)
    store.servers.tell(TWO)
    assert store.servers.live() == [ONE, TWO]
    clock.pass_(2)
    assert store.servers.live() == [TWO]
    assert store.records.map_range(Servers.kind, ALL)[0][0] == "two", "the dead one left something"
    store.servers.tell(ONE)
    store.servers.leave("two")
    assert store.servers.live() == [ONE]


def test_what_cannot_be_read_is_nobody(clock):
    store = memory_store(clock)
    store.servers.tell(ONE)
    store.records.write(Write(Servers.kind, ALL, (MapPut("odd", "{"), MapPut("old", "{}"))))
    assert store.servers.seen() == [ONE] and len(store.records.map_range(Servers.kind, ALL)) == 3
    assert store.servers.live() == [ONE]
    assert len(store.records.map_range(Servers.kind, ALL)) == 1


def test_one_of_another_release_is_seen_without_what_it_counts_otherwise(clock):
    store = memory_store(clock)
    told = {"at": clock(), "versions": ["a"], "per_second": 1.0, "cache": {"hits": 1, "of another time": 2}}
    store.records.write(Write(Servers.kind, ALL, (MapPut("new", json.dumps(told)),)))
    assert store.servers.live() == [Server("new", frozenset({"a"}), 1.0)] and store.servers.live()[0].cache is None
