import contextlib
import dataclasses
import threading

import pytest

from tests.store.builders import memory_store, open_embedded
from videogen.errors import RecordNotFound, StoreConflict
from videogen.store.records import Champion, ServedEngine

ENGINES = {"cpu": ServedEngine("key", "fp32", "report"), "tensorrt": ServedEngine("key2", "fp16", "report2")}


def version(n):
    return Champion(f"{n}" * 64, f"m@{n}", ENGINES)


@pytest.fixture
def store():
    return memory_store()


def test_a_promotion_moves_the_pointer_and_keeps_the_previous(store):
    assert store.champion("m") is None
    first = store.promote("m", version(1), 0)
    assert (first.generation, first.previous, dict(first.targets)) == (1, None, ENGINES)
    second = store.promote("m", version(2), 1)
    assert second == store.champion("m")
    assert (second.label, second.generation, second.previous.label) == ("m@2", 2, "m@1")
    assert store.champion("other") is None


def test_a_stale_promotion_is_refused_and_says_where_the_pointer_is(store):
    store.promote("m", version(1), 0)
    for expected in (0, 2):
        with pytest.raises(StoreConflict, match=rf"at generation 1 \(m@1\), not at generation {expected}"):
            store.promote("m", version(2), expected)
    with pytest.raises(StoreConflict, match="not set"):
        store.promote("n", version(2), 5)


def test_promoting_the_champion_again_changes_nothing(store):
    first = store.promote("m", version(1), 0)
    assert store.promote("m", version(1), 0) == first and len(store.champion_history("m")) == 1


def test_the_champion_on_other_engines_keeps_the_version_to_go_back_to(store):
    store.promote("m", version(1), 0)
    store.promote("m", version(2), 1)
    rebuilt = dataclasses.replace(version(2), targets={"cpu": ServedEngine("key3", "fp32", "report3")})
    again = store.promote("m", rebuilt, 2)
    assert (again.label, again.generation, again.previous.label) == ("m@2", 3, "m@1")
    assert store.rollback("m").label == "m@1"


def test_each_rollback_goes_one_step_further_back(store):
    for n in (1, 2, 3):
        store.promote("m", version(n), n - 1)
    assert store.rollback("m").label == "m@2"
    back = store.rollback("m")
    assert (back.label, back.previous, back.generation, dict(back.targets)) == ("m@1", None, 5, ENGINES)
    with pytest.raises(RecordNotFound, match="no previous"):
        store.rollback("m")
    assert store.promote("m", version(3), 5).previous.label == "m@1"
    assert [(move.champion.label, move.action) for move in store.champion_history("m")] == [
        ("m@1", "promote"), ("m@2", "promote"), ("m@3", "promote"),
        ("m@2", "rollback"), ("m@1", "rollback"), ("m@3", "promote"),
    ]  # fmt: skip


def test_a_rollback_may_insist_on_where_it_starts(store):
    store.promote("m", version(1), 0), store.promote("m", version(2), 1)
    with pytest.raises(StoreConflict):
        store.rollback("m", expected_generation=1)
    assert store.rollback("m", expected_generation=2).label == "m@1"


def test_of_many_who_promote_at_once_one_wins(tmp_path):
    store, won = open_embedded(tmp_path), []

    def promote(n):
        with contextlib.suppress(StoreConflict):
            won.append(store.promote("m", version(n), 0).label)

    threads = [threading.Thread(target=promote, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.champion("m").label] and len(store.champion_history("m")) == 1
    store.close()


def test_a_move_of_the_pointer_is_seen_by_its_generation_alone(store):
    assert store.champion_generation("videogen-tiny") == 0
    store.promote("videogen-tiny", version(1), 0)
    store.promote("videogen-tiny", version(2), 1)
    assert store.champion_generation("videogen-tiny") == 2
    store.rollback("videogen-tiny")
    assert store.champion_generation("videogen-tiny") == 3
