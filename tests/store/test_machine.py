"""Queue, leases and publication against a plain model of them, over sequences that Hypothesis finds."""

import uuid
from collections import Counter

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from tests.store.builders import Clock, accepted, drain_all
from tests.store.crashing import WatchedRecordStore
from videogen.errors import LeaseLost, StoreConflict
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.records import StoreLimits
from videogen.store.store import Store

LEASE_S, LIMIT_S, MAX_ATTEMPTS = 10.0, 30.0, 3
HOLDERS = st.sampled_from(["a", "b"])


class QueueMachine(RuleBasedStateMachine):
    """The model: who asked for what, what ended how, and who holds which lease until when."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.clock, self.ends = Clock(), Counter()
        records = WatchedRecordStore(MemoryRecordStore(self.clock), self.ends)
        self.store = Store(records, StoreLimits(max_attempts=MAX_ATTEMPTS, max_assignments=1000))
        self.wish_of: dict[str, int] = {}  # request id -> seed
        self.ended: dict[str, str] = {}  # request id -> state
        self.videos: set[int] = set()  # seeds that have their video
        self.leases: dict[int, tuple[str, float]] = {}  # seed -> token, valid until
        self.attempts: Counter[int] = Counter()
        self.rested_at: dict[int, float] = {}  # seed -> when it has rested after a failed attempt
        self.batches: set[str] = set()

    def live(self, seed: int) -> list[str]:
        return [one for one, wish in self.wish_of.items() if wish == seed and one not in self.ended]

    def is_held(self, seed: int) -> bool:
        return seed in self.leases and self.clock() < self.leases[seed][1]

    def end_all(self, seed: int, state: str) -> None:
        for one in self.live(seed):
            self.ended[one] = state

    def wear_out(self) -> None:
        """Generations whose last lease ran out fail as soon as anybody looks at their requests."""
        for seed in set(self.wish_of.values()):
            worn = self.attempts[seed] >= MAX_ATTEMPTS and not self.is_held(seed)
            if worn and seed not in self.videos and self.live(seed):
                self.end_all(seed, "failed")
                self.leases.pop(seed, None)
                self.attempts[seed] = -1  # failed: the next submission starts afresh

    @rule(seed=st.integers(0, 3))
    def submit(self, seed: int) -> None:
        if self.attempts[seed] == -1:
            self.attempts[seed] = 0
            self.rested_at.pop(seed, None)
        asked = accepted(seed).model_copy(update={"id": str(uuid.UUID(int=len(self.wish_of) << 80))})
        self.store.submit(asked)
        self.wish_of[asked.id] = seed
        if seed in self.videos:
            self.ended[asked.id] = "done"
        self.wear_out()

    @rule(index=st.integers(0, 100))
    def cancel(self, index: int) -> None:
        self.wear_out()
        if self.wish_of:
            one = list(self.wish_of)[index % len(self.wish_of)]
            self.ended.setdefault(one, "cancelled")
            assert self.store.cancel(one).state == self.ended[one]

    @rule(count=st.integers(1, 3))
    def seal(self, count: int) -> None:
        self.wear_out()
        ids = [record.id for record in self.store.waiting(limit=count)]
        if ids:
            batch = self.store.seal_batch(ids, LIMIT_S)
            assert set(batch.request_ids) == set(ids)
            self.batches.add(batch.id)

    @rule(target=claims, holder=HOLDERS, index=st.integers(0, 100), limit=st.integers(1, 3))
    def claim(self, holder: str, index: int, limit: int):
        self.wear_out()
        if not self.batches:
            return multiple()
        try:
            found = self.store.claim(sorted(self.batches)[index % len(self.batches)], holder, LEASE_S, limit)
        except StoreConflict:
            return multiple()
        return self.take(found, limit)

    @rule(target=claims, holder=HOLDERS, limit=st.integers(1, 3))
    def claim_lane(self, holder: str, limit: int):
        self.wear_out()
        seeds = [self.wish_of[record.id] for record in self.store.waiting()]
        first = next((seed for seed in seeds if self.clock() >= self.rested_at.get(seed, 0.0)), None)
        found = self.store.claim_lane("batch", holder, LEASE_S, limit)
        assert first == (found[0].request.request.seed if found else None), "not in the order of their turns"
        return self.take(found, limit)

    def take(self, found, limit: int):
        assert len(found) <= limit
        assert len(found) <= 1 or all(claim.attempt == 1 for claim in found), "what was tried before is not alone"
        for claim in found:
            seed = claim.request.request.seed
            assert self.clock() >= self.rested_at.pop(seed, 0.0), "it has not rested"
            assert not self.is_held(seed), "two hold one lease"
            assert self.live(seed) and seed not in self.videos, "nobody waits for it"
            self.attempts[seed] += 1
            assert claim.attempt == self.attempts[seed]
            self.leases[seed] = (claim.token, self.clock() + LEASE_S)
        return multiple(*found)

    def holds(self, claim) -> bool:
        return self.leases.get(claim.request.request.seed, ("", 0.0))[0] == claim.token

    @rule(claim=claims)
    def renew(self, claim) -> None:
        seed = claim.request.request.seed
        renewal = self.store.renew([claim])
        assert (renewal.lost == (claim,)) is not self.holds(claim)
        if self.holds(claim):
            self.leases[seed] = (claim.token, self.clock() + LEASE_S)
            self.wear_out()
            assert (renewal.unwanted == (claim,)) is not bool(self.live(seed))

    @rule(claim=claims)
    def publish(self, claim) -> None:
        seed = claim.request.request.seed
        if not self.holds(claim):
            with pytest.raises(LeaseLost):
                self.store.publish(claim, b"late", {})
            return
        self.store.publish(claim, b"video %d" % seed, {})
        self.videos.add(seed)
        self.end_all(seed, "done")
        del self.leases[seed]

    @rule(claim=consumes(claims), retry=st.booleans())
    def fail(self, claim, retry: bool) -> None:
        seed = claim.request.request.seed
        if not self.holds(claim):
            with pytest.raises(LeaseLost):
                self.store.fail(claim, "fault", retry)
            return
        self.store.fail(claim, "fault", retry)
        del self.leases[seed]
        if not retry or self.attempts[seed] >= MAX_ATTEMPTS:
            self.end_all(seed, "failed")
            self.attempts[seed] = -1
        else:
            rest = self.store.records.read("generation", claim.generation).bins["retry_s"]
            assert 0.5 <= rest / 2 ** (claim.attempt - 1) <= 1.0
            self.rested_at[seed] = self.clock() + rest

    @rule(claim=consumes(claims))
    def release(self, claim) -> None:
        self.store.release([claim])
        if self.holds(claim):
            seed = claim.request.request.seed
            del self.leases[seed]
            self.attempts[seed] -= 1

    @rule(seconds=st.sampled_from([1.0, 4.0, 11.0, 31.0]))
    def wait(self, seconds: float) -> None:
        self.clock.pass_(seconds)

    @rule()
    def recover(self) -> None:
        self.wear_out()
        before = {one for one in self.wish_of if self.store.request(one).batch is not None}
        self.store.recover()
        freed = [one for one in before if one not in self.ended and self.store.request(one).batch is None]
        for one in freed:  # a batch that is given back takes the leases of its dead holder along
            seed = self.wish_of[one]
            state = self.store.records.read("generation", self.store.request(one).generation)
            if seed in self.leases and state is not None and state.bins["state"] == "free":
                del self.leases[seed]

    @invariant()
    def every_request_is_in_the_state_the_model_says(self) -> None:
        self.wear_out()
        for one, seed in self.wish_of.items():
            record = self.store.request(one)
            if one in self.ended:
                assert record.state == self.ended[one]
            else:
                assert (record.state == "running") is self.is_held(seed)
                assert record.is_live

    @invariant()
    def nothing_ends_twice(self) -> None:
        assert all(count == 1 for (kind, _), count in self.ends.items() if kind == "request")
        assert sum(count for (kind, _), count in self.ends.items() if kind == "generation") == len(self.videos)

    def teardown(self) -> None:
        self.clock.pass_(1000.0)
        self.wear_out()
        drain_all(self.store)
        assert not self.store.requests(["queued", "assigned", "running"])
        for one in self.wish_of:
            assert self.store.request(one).state == self.ended.get(one, "done")


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
