"""Dies before each single write of each change, then goes on: no request is lost, doubled or published twice."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.store.builders import Clock, accepted, drain_all
from tests.store.crashing import Crash, WatchedRecordStore
from videogen.errors import LeaseLost
from videogen.requests import AcceptedRequest, new_id
from videogen.store.backends.embedded import EmbeddedRecordStore
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import END_STATES
from videogen.store.store import Store


class Clocked(EmbeddedRecordStore):
    """Its time passes only when a test says so."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self.clock = clock
        super().__init__(folder)

    def now(self) -> float:
        return self.clock()


@dataclass
class World:
    """Two requests for one video and two more, in a store whose process may die."""

    backwards: bool
    folder: Path | None = None
    """Where it is embedded; else it is in memory, where a block of writes is each write by itself."""
    clock: Clock = field(default_factory=Clock)
    ends: Counter = field(default_factory=Counter)
    asked: list[AcceptedRequest] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inner = MemoryRecordStore(self.clock) if self.folder is None else Clocked(self.folder, self.clock)
        twin = accepted(0)
        self.asked = [twin, twin.model_copy(update={"id": new_id()}), accepted(1), accepted(2)]

    @property
    def ids(self) -> list[str]:
        return [request.id for request in self.asked]

    def store(self, writes_left: int | None = None) -> Store:
        return Store(WatchedRecordStore(self.inner, self.ends, writes_left, self.backwards))


def submit_last(world: World, store: Store) -> None:
    store.submit(world.asked[-1])


def seal(world: World, store: Store) -> None:
    store.seal_batch(world.ids, 60.0)


def claim(world: World, store: Store) -> None:
    store.claim(world.batch, "run", 60.0)


def publish(world: World, store: Store) -> None:
    store.publish(world.claims[0], b"mp4" * 400_000, {"engine": "cpu"})


def fail_for_good(world: World, store: Store) -> None:
    store.fail(world.claims[0], "no", retry=False)


def fail_for_now(world: World, store: Store) -> None:
    store.fail(world.claims[0], "no", retry=True)


def cancel(world: World, store: Store) -> None:
    store.cancel(world.ids[0])


def finish(world: World, store: Store) -> None:
    store.finish_batch(world.batch, "run")


def give_back(world: World, store: Store) -> None:
    store.give_back(world.batch, "the run failed", "run")


def recover(world: World, store: Store) -> None:
    world.clock.pass_(700)
    store.recover()


def drain_again(world: World, store: Store) -> None:
    world.clock.pass_(700)
    store.recover()
    store.claim(world.batch, "run 2", 60.0)


def prepare(world: World, until: str) -> None:
    """Everything before the change under test."""
    store = world.store()
    for request in world.asked[: -1 if until == "submit" else None]:
        store.submit(request)
    if until in ("sealed", "claimed"):
        world.batch = store.seal_batch(world.ids, 60.0).id
    if until == "claimed":
        world.claims = store.claim(world.batch, "run", 60.0)


CHANGES: list[tuple[str, Callable[[World, Store], None], frozenset[str]]] = [
    ("submit", submit_last, frozenset({"done"})),
    ("queued", seal, frozenset({"done"})),
    ("queued", cancel, frozenset({"done", "cancelled"})),
    ("sealed", claim, frozenset({"done"})),
    ("sealed", give_back, frozenset({"done"})),
    ("sealed", recover, frozenset({"done"})),
    ("claimed", publish, frozenset({"done"})),
    ("claimed", fail_for_good, frozenset({"done", "failed"})),
    ("claimed", fail_for_now, frozenset({"done"})),
    ("claimed", cancel, frozenset({"done", "cancelled"})),
    ("claimed", finish, frozenset({"done"})),
    ("claimed", give_back, frozenset({"done"})),
    ("claimed", recover, frozenset({"done"})),
    ("claimed", drain_again, frozenset({"done"})),
]


@pytest.mark.parametrize("where", ["in order", "backwards", "embedded"])
@pytest.mark.parametrize(("until", "change", "allowed"), CHANGES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_death_before_any_write_loses_nothing_and_doubles_nothing(until, change, allowed, where, tmp_path):
    writes_left, died = 0, True
    while died:
        world = World(where == "backwards", tmp_path / str(writes_left) if where == "embedded" else None)
        died = dies_after(writes_left, world, until, change, allowed)
        world.inner.close()
        writes_left += 1
    assert writes_left > 2 or change is fail_for_now, "there was nothing to interrupt"


def dies_after(writes_left: int, world: World, until: str, change: Callable, allowed: frozenset[str]) -> bool:
    prepare(world, until)
    try:
        change(world, world.store(writes_left))
        died = False
    except Crash:
        died = True
    store = world.store()
    if until == "submit":
        store.submit(world.asked[-1])  # a client that got no answer asks again
    late = getattr(world, "claims", [])
    world.clock.pass_(700)  # leases and time limits run out
    drain_all(store)
    for one in late:  # and the process that seemed dead wakes up
        with pytest.raises(LeaseLost):
            store.publish(one, b"late", {})
    check(world, store, allowed)
    return died


def check(world: World, store: Store, allowed: frozenset[str]) -> None:
    records = [store.request(one) for one in world.ids]
    assert {record.state for record in records} <= allowed, records
    assert all(store.read_video(record.video) for record in records if record.state == "done")
    assert all(record.error for record in records if record.state == "failed")
    assert set(world.ends.values()) == {1}, "something ended twice"
    assert {record.id for record in store.requests(END_STATES)} == set(world.ids)
    store.recover()
    assert store.waiting() == [] and list(store._queue.entries()) == [] and store._batches.open_entries() == []
    assert store.requests(["queued", "assigned", "running"]) == []


def test_the_check_finds_a_lost_request():
    world = World(backwards=False)
    prepare(world, "queued")
    with pytest.raises(AssertionError):
        check(world, world.store(), frozenset({"done"}))


def change_one(store: Store, request_id: str) -> None:
    store.fork(request_id, {"prompt": "a blue ball"}, 1)


@pytest.mark.parametrize("dies_in", [submit_last, change_one])
def test_a_death_while_somebody_comes_to_wait_leaves_no_list_for_ever(dies_in):
    left, lists = 0, 0
    while True:
        world = World(backwards=False)
        asked = world.asked[-1]
        if dies_in is change_one:
            Store(world.inner).submit(asked)
        store = world.store(left)
        try:
            change_one(store, asked.id) if dies_in is change_one else submit_last(world, store)
        except Crash:
            keys = [key for kind, key in world.inner.names() if kind == "waiters"]
            assert all(record.expires_in for record in world.inner.read_many("waiters", keys, aged=True))
            left, lists = left + 1, lists + len(keys)
            continue
        break
    assert lists > (left if dies_in is change_one else 0)
