"""What every backend promises; a new one is added to `backend_url` and passes the same tests."""

import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from videogen.errors import RecordDamaged, StoreUnavailable
from videogen.store.backends.catalog import open_records
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import (
    MAX_PAYLOAD,
    NEVER,
    Add,
    Is,
    MapIs,
    MapPut,
    MapRemove,
    Record,
    Set,
    SetPayload,
    Unwritten,
    Write,
    either,
    every,
)


def outlive(records, ttl):
    """Sleeps until what was written with `ttl` is gone: Aerospike counts in whole seconds, and is up to one late."""
    counts_in_seconds = type(records).__name__ == "AerospikeRecordStore"
    time.sleep(math.ceil(ttl) + 1.1 if counts_in_seconds else ttl + 0.05)


def put(key="a", *operations, **options):
    return Write("kind", key, operations or (Set("n", 1),), **options)


def test_what_was_written_is_read_back(records):
    operations = (Set("text", "ü\n'"), Set("n", 2**62), Set("x", 0.5), Set("yes", True), Set("list", ["a", "b"]))
    written = records.write(put("a", *operations, SetPayload(bytes(range(256)))))
    found = records.read("kind", "a")
    assert found.bins == {"text": "ü\n'", "n": 2**62, "x": 0.5, "yes": True, "list": ["a", "b"]} == written.bins
    assert found.payload == bytes(range(256))
    assert records.read("kind", "b") is None and records.read("other", "a") is None


def test_a_write_changes_only_the_bins_it_names(records):
    records.write(put("a", Set("n", 1), Set("m", 2), SetPayload(b"x")))
    records.write(put("a", Set("n", None)))
    assert records.read("kind", "a").bins == {"m": 2}
    assert records.read("kind", "a").payload == b"x"


def test_a_write_gives_the_bins_it_names(records):
    records.write(put("a", Set("n", 1), Set("m", 2)))
    assert records.write(put("a", Set("n", 5), Set("gone", None), MapPut("k"), SetPayload(b"x"))).bins == {"n": 5}
    assert records.write(Write("kind", "a", (), create="never")).bins == {}


def test_many_are_read_in_the_order_asked(records):
    records.write_many([put(f"k{i}", Set("n", i)) for i in range(700)])
    found = records.read_many("kind", [f"k{i}" for i in reversed(range(700))] + ["none"])
    assert [record.bins["n"] for record in found[:-1]] == list(reversed(range(700))) and found[-1] is None


def test_create_only_and_create_never(records):
    assert records.write(put("a", create="never")) is None
    assert records.read("kind", "a") is None
    assert records.write(put("a", Set("n", 1), create="only")).bins == {"n": 1}
    assert records.write(put("a", Set("n", 2), create="only")) is None
    assert records.write(put("a", Set("n", 3), create="never")).bins == {"n": 3}


def test_a_condition_that_does_not_hold_leaves_everything_as_it_was(records):
    records.write(put("a", Set("n", 1), MapPut("k", "v")))
    refused = put("a", Set("n", 2), SetPayload(b"x"), MapRemove("k"), create="never", when=Is("n", 7))
    assert records.write(refused) is None
    assert records.read("kind", "a").bins == {"n": 1} and records.read("kind", "a").payload is None
    assert records.map_range("kind", "a") == [("k", "v")]


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        (Is("n", 1), True),
        (Is("n", 2), False),
        (Is("missing", None), True),
        (MapIs("k", "v"), True),
        (MapIs("k", "w"), False),
        (MapIs("l", "v"), False),
        (every(Is("n", 1), MapIs("k", "v")), True),
        (every(Is("n", 1), Is("n", 2)), False),
        (either(Is("n", 2), Is("n", 1)), True),
        (either(Is("n", 2), Is("n", 3)), False),
        (Unwritten("missing"), False),
        (Unwritten("long"), False),
        (Unwritten("short"), True),
    ],
)
def test_conditions(records, when, holds):
    records.write(put("a", Set("n", 1), Set("long", 1000.0), Set("short", 0.01), MapPut("k", "v")))
    time.sleep(0.02)
    assert (records.write(put("a", Set("m", 1), create="never", when=when)) is not None) is holds


def test_any_write_starts_the_age_again(records):
    records.write(put("a", Set("limit", 1.0)))
    time.sleep(0.6)
    assert records.write(put("a", MapPut("k"))) is not None
    time.sleep(0.5)
    assert 0.5 <= records.read("kind", "a", aged=True).age < 1.0
    assert records.write(put("a", create="never", when=Unwritten("limit"))) is None
    time.sleep(1.0)
    assert records.write(put("a", create="never", when=Unwritten("limit"))) is not None


def test_reading_does_not_start_the_age_again(records):
    records.write(put("a"))
    time.sleep(0.05)
    records.read("kind", "a"), records.map_range("kind", "a")
    assert records.read("kind", "a", aged=True).age >= 0.05


def test_counting(records):
    for amount in (1, 5, -2):
        found = records.write(put("a", Add("n", amount), Add("m", 1)))
    assert found.bins == {"n": 4, "m": 3}


def test_maps_are_ordered_by_key_and_read_in_pages(records):
    keys = [f"{i:03d}" for i in (5, 3, 9, 1, 7)]
    records.write(put("a", *(MapPut(key, f"v{key}") for key in keys)))
    assert records.map_range("kind", "a") == [(key, f"v{key}") for key in sorted(keys)]
    assert records.map_range("kind", "a", after="003", limit=2) == [("005", "v005"), ("007", "v007")]
    records.write(put("a", MapRemove("005"), MapRemove("none"), MapPut("001", "new")))
    assert records.map_range("kind", "a", limit=2) == [("001", "new"), ("003", "v003")]
    assert records.read("kind", "a").bins == {} and records.map_range("kind", "none") == []


def test_an_expired_record_is_gone_with_its_map(records):
    records.write(put("a", Set("n", 1), MapPut("k"), ttl=0.5))
    assert records.read("kind", "a") is not None
    outlive(records, 0.5)
    assert records.read("kind", "a") is None and records.map_range("kind", "a") == []
    assert records.write(put("a", create="never")) is None
    assert records.write(put("a", Set("m", 1), create="only")).bins == {"m": 1}
    assert records.map_range("kind", "a") == []


def test_a_write_without_ttl_keeps_the_expiry_and_never_takes_it_away(records):
    records.write_many([put("a", ttl=0.6), put("b", ttl=0.6)])
    records.write_many([put("a"), put("b", ttl=NEVER)])
    outlive(records, 0.6)
    assert records.read("kind", "a") is None and records.read("kind", "b") is not None


def test_purge_removes_what_expired_and_nothing_else(records):
    records.write_many([put("a", ttl=0.01), put("b", ttl=100.0), put("c")])
    outlive(records, 0.01)
    removed = records.purge()
    assert removed in (0, 1) and records.purge() == 0  # servers remove what has expired by themselves
    assert [record is not None for record in records.read_many("kind", ["a", "b", "c"])] == [False, True, True]


def test_the_clock_runs_and_never_backwards(records):
    times = [records.now() for _ in range(100)]
    assert times == sorted(times)
    time.sleep(0.02)
    assert 0.02 <= records.now() - times[0] < 5


def test_a_payload_that_no_backend_could_take_is_refused():
    with pytest.raises(ValueError, match="chunks"):
        put("a", SetPayload(bytes(MAX_PAYLOAD + 1)))


def test_a_condition_on_a_record_that_may_not_exist_is_refused():
    with pytest.raises(ValueError, match="never"):
        put("a", when=Is("n", 1))


def test_threads_that_compare_and_swap_lose_no_step(records):
    records.write(put("a", Set("n", 0)))

    def count_up():
        for _ in range(25):
            while True:
                n = records.read("kind", "a").bins["n"]
                if records.write(put("a", Set("n", n + 1), create="never", when=Is("n", n))):
                    break

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records.read("kind", "a").bins["n"] == 100


def test_a_bin_of_another_type_is_named():
    record = Record({"n": "x", "m": 1, "l": [1]})
    for read in (
        lambda: record.number("n"),
        lambda: record.text("m"),
        lambda: record.count("n"),
        lambda: record.texts("l"),
    ):
        with pytest.raises(RecordDamaged, match="bin"):
            read()


@pytest.mark.parametrize("url", ["postgres://x", "embedded:", "nothing", ""])
def test_an_unknown_url_names_what_is_allowed(url):
    with pytest.raises(StoreUnavailable, match=r"embedded:<folder>"):
        open_records(url)


def test_a_map_key_that_no_backend_could_order_is_refused():
    for entry in (("", "x"), ("a\0b", "x"), ("a", "\0")):
        with pytest.raises(ValueError, match="map's entry"):
            MapPut(*entry)


@pytest.mark.parametrize("value", ["a\0", ["a", "b\0"], 2**63, -(2**63) - 1, float("nan"), float("inf"), b"x", {}, [1]])
def test_a_value_that_not_every_backend_could_hold_is_refused(value):
    with pytest.raises(ValueError, match="bin n: got"):
        Set("n", value)


def test_a_bin_name_that_not_every_backend_could_hold_is_refused():
    for name in ("", "sixteen letters!"):
        with pytest.raises(ValueError, match="1 to 15 characters"):
            Set(name, 1)


def test_adding_to_what_is_no_whole_number_starts_at_nought(records):
    records.write(put("a", Set("n", "text"), Set("m", 0.5), Set("yes", True)))
    assert records.write(put("a", Add("n", 2), Add("m", 3), Add("yes", 4))).bins == {"n": 2, "m": 3, "yes": 4}


def test_a_bin_that_is_set_to_none_is_gone(records):
    records.write(put("a", Set("n", 1)))
    assert records.write(put("a", Set("n", None))).bins == {}
    assert records.write(put("a", Set("m", 1), create="never", when=Is("n", None))) is not None


def test_what_one_has_written_the_other_reads(records, open_more):
    if isinstance(records, MemoryRecordStore):
        pytest.skip("it is in the memory of one process")
    records.write(put("a", Set("n", 1), MapPut("k", "v"), SetPayload(b"\0\xff")))
    other = open_more()
    assert other.read("kind", "a").bins == {"n": 1} and other.map_range("kind", "a") == [("k", "v")]
    assert other.read("kind", "a").payload == b"\0\xff"
    assert other.write(put("a", Set("n", 2), create="never", when=Is("n", 1))).bins == {"n": 2}
    assert records.read("kind", "a").bins == {"n": 2}


def test_the_largest_payload_there_may_be(records):
    payload = bytes(range(256)) * (MAX_PAYLOAD // 256)
    records.write(put("a", SetPayload(payload)))
    assert records.read("kind", "a").payload == payload


def test_a_record_written_afresh_has_nothing_of_the_one_that_expired(records):
    records.write(put("a", Set("n", 1), MapPut("k"), SetPayload(b"x"), ttl=0.5))
    outlive(records, 0.5)
    records.write(put("a", Set("m", 1)))
    assert records.read("kind", "a").bins == {"m": 1}
    assert records.read("kind", "a").payload is None and records.map_range("kind", "a") == []


def test_keys_and_values_of_any_text(records):
    key = "ein Schlüssel/with: {braces} and 'quotes'\n" + "x" * 200
    records.write(put(key, Set("text", "\u2028\x01"), MapPut("käse\x01", "\n\x7f"), MapPut("käse", "2")))
    assert records.read("kind", key).bins == {"text": "\u2028\x01"}
    assert records.map_range("kind", key) == [("käse", "2"), ("käse\x01", "\n\x7f")]
    assert records.map_range("kind", key, after="käse") == [("käse\x01", "\n\x7f")]
    assert records.write(put(key, Set("n", 1), create="never", when=MapIs("käse\x01", "\n\x7f"))) is not None


def test_every_record_is_named(records):
    kinds = {(kind, f"{i:03d}: {{x}} ü") for kind in ("kind", "other-kind") for i in range(30)}
    records.write_many([Write(kind, key, (Set("n", 1), MapPut("k"))) for kind, key in kinds])
    records.write(put("gone", ttl=0.01))
    outlive(records, 0.01)
    assert set(records.names()) == kinds


def test_the_keys_of_one_kind_and_of_those_written_since(records):
    kinds = [(kind, f"{i:03d}: {{x}} ü") for kind in ("kind", "kind-2", "media", "video") for i in range(300)]
    for kind, key in kinds:
        records.write(Write(kind, key, (Set("n", 1), MapPut("k"))))
    for kind in ("kind", "video"):
        assert set(records.keys(kind)) == {key for of, key in kinds if of == kind}
    assert list(records.keys("nothing")) == []
    time.sleep(0.05)
    since = records.now()
    assert list(records.keys("kind", since)) == []
    records.write(put("new"))
    records.write(put(kinds[7][1], MapPut("m")))
    records.write(Write("video", "other", (Set("n", 1),)))
    assert set(records.keys("kind", since)) == {"new", kinds[7][1]}
    assert len(set(records.keys("kind", since - 3600))) == 301


def test_it_tells_where_it_is_and_what_it_holds(records, backend_url):
    records.write_many([put(str(i)) for i in range(5)])
    found = records.facts()
    assert found.where and found.where.partition(":")[0] == backend_url.partition(":")[0]
    if found.records is not None:
        assert found.records["kind"] == 5
    if not backend_url.startswith("memory"):
        assert found.version and found.bytes_used


def test_a_record_says_when_it_expires(records):
    records.write_many([put("a", ttl=100.0), put("b")])
    soon, never = records.read_many("kind", ["a", "b"], aged=True)
    assert 98 < soon.expires_in <= 100 and never.expires_in is None


def test_a_block_of_writes_reads_what_it_wrote_and_leaves_it_also_through_an_error(records):
    with records.together():
        assert records.write(put("a", Set("n", 1), create="only")).bins == {"n": 1}
        with records.together():
            assert records.read("kind", "a").bins == {"n": 1}
            assert records.write(put("a", Set("n", 2), when=Is("n", 1), create="never")).bins == {"n": 2}
        assert records.write(put("a", create="only")) is None

    def stopped() -> None:
        with records.together():
            records.write(put("b", MapPut("entry", "x")))
            raise KeyError

    with pytest.raises(KeyError):
        stopped()
    assert records.read("kind", "a").bins == {"n": 2} and records.map_range("kind", "b") == [("entry", "x")]
    with ThreadPoolExecutor(4) as threads:

        def add(_: int) -> None:
            with records.together():
                records.write(put("count", Add("n", 1)))
                records.write(put("count", Add("n", 1)))

        list(threads.map(add, range(20)))
    assert records.read("kind", "count").bins == {"n": 40}
