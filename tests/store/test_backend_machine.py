"""Every backend against the plainest one, over sequences of writes and reads that Hypothesis finds."""

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.primitives import (
    NEVER,
    Add,
    Either,
    Every,
    Is,
    MapIs,
    MapPut,
    MapRemove,
    Record,
    RecordStore,
    Set,
    SetPayload,
    Unwritten,
    Write,
)

KINDS, KEYS = ("request", "video"), ("a", "b/1")
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
MAP_KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=3)
BINS = st.sampled_from(["state", "n", "token", "limit_s"])
WHOLE = st.integers(-(2**40), 2**40)
VALUES = st.one_of(
    st.none(), st.booleans(), WHOLE, st.floats(allow_nan=False, allow_infinity=False, width=32), TEXTS,
    st.lists(TEXTS, max_size=3),
)  # fmt: skip
SIMPLE = st.one_of(st.none(), WHOLE, st.sampled_from(["free", "held", ""]))
OPERATIONS = st.one_of(
    st.builds(Set, BINS, VALUES | SIMPLE),
    st.builds(Add, BINS, st.integers(-5, 5)),
    st.builds(SetPayload, st.binary(max_size=20)),
    st.builds(MapPut, MAP_KEYS, TEXTS),
    st.builds(MapRemove, MAP_KEYS),
)
AGES = st.builds(Set, st.just("limit_s"), st.sampled_from([0, 0.0, 1e6]))
LEAVES = st.one_of(
    st.builds(Is, BINS, SIMPLE), st.builds(MapIs, MAP_KEYS, TEXTS), st.builds(Unwritten, st.just("limit_s"))
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: Every(tuple(parts)))
        | st.lists(inner, max_size=3).map(lambda parts: Either(tuple(parts)))
    ),
    max_leaves=5,
)


class BackendMachine(RuleBasedStateMachine):
    """The same to both, and both must say the same."""

    fresh = itertools.count()

    def __init__(self, backend: RecordStore) -> None:
        super().__init__()
        self.backend, self.model, self.run = backend, MemoryRecordStore(), str(next(self.fresh))
        self.map_keys: set[str] = set()

    def both(self, write: Write) -> None:
        found, expected = self.backend.write(write), self.model.write(write)
        assert (found and found.bins) == (expected and expected.bins)
        self.map_keys |= {operation.key for operation in write.operations if isinstance(operation, MapPut)}

    @rule(
        kind=st.sampled_from(KINDS), key=st.sampled_from(KEYS), operations=st.lists(OPERATIONS | AGES, max_size=4),
        create=st.sampled_from(["allow", "only", "never"]), ttl=st.sampled_from([None, None, NEVER, 1000.0]),
    )  # fmt: skip
    def write(self, kind, key, operations, create, ttl) -> None:
        self.both(Write(kind, self.run + key, tuple(operations), create, ttl=ttl))

    @rule(
        kind=st.sampled_from(KINDS), key=st.sampled_from(KEYS), operations=st.lists(OPERATIONS, max_size=3),
        when=CONDITIONS,
    )  # fmt: skip
    def write_if(self, kind, key, operations, when) -> None:
        self.both(Write(kind, self.run + key, tuple(operations), "never", when))

    @rule(kind=st.sampled_from(KINDS), key=st.sampled_from(KEYS), limit=st.integers(1, 3), data=st.data())
    def page(self, kind, key, limit, data) -> None:
        after = data.draw(st.sampled_from(["", *sorted(self.map_keys)]) | MAP_KEYS)
        asked = (kind, self.run + key, after, limit)
        assert self.backend.map_range(*asked) == self.model.map_range(*asked)
        keys = [self.run + key for key in KEYS]
        assert self.backend.map_heads(kind, keys, limit) == [self.model.map_range(kind, one, "", limit) for one in keys]

    @invariant()
    def both_hold_the_same(self) -> None:
        keys = [self.run + key for key in KEYS]
        for kind in KINDS:
            found, expected = self.backend.read_many(kind, keys), self.model.read_many(kind, keys)
            assert [_content(record) for record in found] == [_content(record) for record in expected]
            maps = ([store.map_range(kind, key) for key in keys] for store in (self.backend, self.model))
            assert next(maps) == next(maps)


def _content(record: object) -> object:
    return (record.bins, record.payload) if isinstance(record, Record) else record


@pytest.mark.parametrize("backend_url", ["embedded", "redis", "aerospike", "dual", "dual-aerospike"], indirect=True)
def test_a_backend_does_what_the_plainest_one_does(records):
    limits = settings(
        max_examples=60, stateful_step_count=25, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )  # fmt: skip
    run_state_machine_as_test(lambda: BackendMachine(records), settings=limits)
