"""One record per generation: who holds its lease, how often it was tried, what came of it.

While it is held, only its holder writes it, so the time since its last write is the age of the lease. Every write of
the holder checks its token in the same operation.
"""

import random
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Literal

from videogen.errors import LeaseLost, RecordDamaged
from videogen.requests import AcceptedRequest
from videogen.store.primitives import (
    NEVER,
    Add,
    Condition,
    Is,
    MapPut,
    MapRemove,
    Operation,
    Record,
    RecordStore,
    Set,
    Unwritten,
    Write,
    either,
    every,
)
from videogen.store.records import Claim, StoreLimits

LONGEST_ERROR = 2000
WAITERS_S = 7 * 86_400.0
"""From the last who came to wait for a generation, or to make it, to the end of the list: a crash leaves none for ever.

Who is not on it is answered all the same, when its request is next looked at.
"""
HELD = Is("state", "held")
RESTED = every(Is("state", "free"), either(Is("retry_s", None), Unwritten("retry_s")))
"""It may be claimed. While it rests after a failed attempt nobody writes it, so its age is the time it has rested."""
RAN_OUT = every(HELD, Unwritten("lease_s"))
"""It may be taken from its holder."""
EXPIRED = Add("expired_leases", 1)
"""In every write that takes a generation from a holder whose lease ran out, and in no other."""


@dataclass(frozen=True, slots=True)
class GenerationState:
    """A generation as it was read. `is_held`: its lease has not run out. `since`: seconds since its last write.

    `retry_in`: seconds that it has yet to rest after a failed attempt. `expired_leases`: of its attempts, those whose
    lease ran out, but for one that nobody has taken over yet. `made_for`: the request for which its video was made.
    """

    key: str
    state: Literal["free", "held", "done", "failed"] = "free"
    attempt: int = 0
    expired_leases: int = 0
    is_held: bool = False
    holder: str | None = None
    video: str | None = None
    made_for: str | None = None
    error: str | None = None
    progress: float = 0.0
    since: float = 0.0
    retry_in: float = 0.0
    exists: bool = False


class Generations:
    """Reads and writes of generation records, and of the lists of requests that wait on them."""

    def __init__(self, records: RecordStore, limits: StoreLimits) -> None:
        self.records, self.limits = records, limits

    def key(self, accepted: AcceptedRequest) -> str:
        """The fingerprint, apart for each tenant unless videos are shared."""
        if self.limits.share_between_tenants:
            return accepted.fingerprint
        return f"{accepted.request.tenant}.{accepted.fingerprint}"

    def read_many(self, keys: Sequence[str]) -> list[GenerationState]:
        """A damaged record is put back to the start: its lease is lost, its requests are tried again."""
        found = self.records.read_many("generation", keys, aged=True)
        states = [_state(key, record) for key, record in zip(keys, found, strict=True)]
        broken = [key for key, state in zip(keys, states, strict=True) if state is None]
        if broken:
            self.records.write_many([_restart(key, create="allow") for key in broken])
        return [state or GenerationState(key, exists=True) for key, state in zip(keys, states, strict=True)]

    def claim(
        self, wanted: Sequence[tuple[GenerationState, AcceptedRequest]], holder: str, lease_s: float
    ) -> list[Claim]:
        """Takes the leases that are still as they were read; others are left out."""
        claims = [
            Claim(
                state.key, f"{state.attempt + 1}-{secrets.token_hex(8)}", state.attempt + 1, accepted, holder, lease_s
            )
            for state, accepted in wanted
        ]
        writes = [self._claim(claim, state) for claim, (state, _) in zip(claims, wanted, strict=True)]
        return [claim for claim, done in zip(claims, self.records.write_many(writes), strict=True) if done is not None]

    def _claim(self, claim: Claim, state: GenerationState) -> Write:
        operations = (
            Set("state", "held"),
            Set("token", claim.token),
            Set("holder", claim.holder),
            Set("lease_s", claim.lease_s),
            Set("attempt", claim.attempt),
            Set("retry_s", None),
            Set("progress", 0.0),
        )
        if not state.exists:
            return Write("generation", claim.generation, operations, create="only")
        return _take(state, operations, ttl=NEVER)

    def renew(self, claims: Sequence[Claim], progress: Mapping[str, float]) -> list[bool]:
        """Starts the leases again and records progress by generation; False for each that is lost."""
        writes = [
            self._holder_write(claim, Set("progress", progress[claim.generation]))
            if claim.generation in progress
            else self._holder_write(claim)
            for claim in claims
        ]
        return [record is not None for record in self.records.write_many(writes)]

    def finish(self, claim: Claim, video: str) -> GenerationState:
        """The moment in which a generation has its one video. Raises LeaseLost; doing it twice is no error."""
        made_for = claim.request.id
        operations = (Set("state", "done"), Set("video", video), Set("made_for", made_for))
        operations += (Set("error", None), Set("progress", 1.0))
        write = self._holder_write(claim, *operations, ttl=self.limits.keep_videos)
        if self.records.write(write) is not None:
            key, attempt = claim.generation, claim.attempt
            return GenerationState(key, "done", attempt, video=video, made_for=made_for, progress=1.0, exists=True)
        now = self.records.read("generation", claim.generation, aged=True)
        mine = now is not None and now.bins.get("token") == claim.token
        state = _state(claim.generation, now)
        if not mine or state is None or (state.state, state.video) != ("done", video):
            raise _lost(claim)
        return state

    def fail(self, claim: Claim, error: str, final: bool) -> None:
        """Gives the lease back with an error: for good if `final`, else to rest for a while. Raises LeaseLost."""
        rest = None if final else self._rest_s(claim.attempt)
        operations = (Set("state", "failed" if final else "free"), Set("error", noted(error)), Set("retry_s", rest))
        ttl = self.limits.keep_requests if final else None
        if self.records.write(self._holder_write(claim, *operations, ttl=ttl)) is None:
            raise _lost(claim)

    def _rest_s(self, attempt: int) -> float:
        """Twice as long after each attempt, up to a bound, less up to a half: those that failed at once come apart."""
        longest = min(self.limits.longest_retry, self.limits.first_retry * 2.0 ** (attempt - 1))
        return longest * random.uniform(0.5, 1.0)

    def release(self, claims: Iterable[Claim]) -> None:
        """Gives leases back as if they had never been taken; those that are lost stay lost."""
        self.records.write_many(
            [self._holder_write(claim, Set("state", "free"), Add("attempt", -1)) for claim in claims]
        )

    def free_from(self, holder: str, keys: Sequence[str]) -> None:
        """Takes the leases away from a holder that is known to be dead; should it live, it is fenced off."""
        when = every(HELD, Is("holder", holder))
        error = Set("error", f"{holder} ended before it was done")
        self.records.write_many(
            [Write("generation", key, (Set("state", "free"), error), create="never", when=when) for key in keys]
        )

    def give_up(self, state: GenerationState) -> bool:
        """Fails a generation that nobody holds and that has been tried often enough."""
        reason = state.error if state.state == "free" and state.error else "whoever held it ended before it was done"
        error = noted(f"given up after {state.attempt} attempts; the last one: {reason}")
        operations = (Set("state", "failed"), Set("error", error))
        return self.records.write(_take(state, operations, ttl=self.limits.keep_requests)) is not None

    def reopen(self, state: GenerationState) -> None:
        """Lets a generation that failed, or whose video is gone, be tried from the start."""
        self.records.write(_restart(state.key, "never", every(Is("state", state.state), Is("video", state.video))))

    def _holder_write(self, claim: Claim, *operations: Set | Add, ttl: float | None = None) -> Write:
        when = every(HELD, Is("token", claim.token))
        return Write("generation", claim.generation, operations, create="never", when=when, ttl=ttl)

    def wait(self, key: str, request_id: str) -> Write:
        """Puts a request on the list of those that want to hear from a generation."""
        return Write("waiters", key, (MapPut(request_id),), ttl=WAITERS_S)

    def stop_waiting(self, key: str, request_id: str) -> Write:
        return Write("waiters", key, (MapRemove(request_id),), create="never", ttl=self.limits.keep_requests)

    def first_waiters(self, keys: Sequence[str], most: int) -> list[list[str]]:
        """As `waiters`, the first `most` of each, at once."""
        heads = self.records.map_heads("waiters", keys, most) if keys else []
        return [[request_id for request_id, _ in head] for head in heads]

    def waiters(self, key: str) -> list[str]:
        """The ids of the requests on the list; some may have ended."""
        return [request_id for page in self.records.map_pages("waiters", key) for request_id, _ in page]


def noted(error: str) -> str:
    """As much of an error's text as is kept, of characters that every backend can hold."""
    return error[:LONGEST_ERROR].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _take(state: GenerationState, operations: tuple[Operation, ...], ttl: float) -> Write:
    """A write on a generation that nobody holds, if it still is as it was read."""
    ran_out = state.state == "held"
    when = every(RAN_OUT if ran_out else RESTED, Is("attempt", state.attempt))
    return Write("generation", state.key, (*operations, EXPIRED) if ran_out else operations, "never", when, ttl)


def _restart(key: str, create: Literal["allow", "never"], when: Condition | None = None) -> Write:
    operations = (Set("state", "free"), Set("attempt", 0), Set("video", None), Set("error", None), Set("token", None))
    operations += (Set("retry_s", None), Set("expired_leases", None))
    return Write("generation", key, operations, create=create, when=when, ttl=NEVER)


def _state(key: str, record: Record | RecordDamaged | None) -> GenerationState | None:
    """The record as a state, or None if a bin holds what no write puts there."""
    if record is None:
        return GenerationState(key)
    if isinstance(record, RecordDamaged):
        return None
    bins = record.bins
    kinds: dict[str, type | UnionType] = {
        "attempt": int,
        "expired_leases": int | None,
        "progress": int | float | None,
        "holder": str | None,
        "video": str | None,
        "made_for": str | None,
    }
    kinds |= {"error": str | None, "retry_s": int | float | None}
    if bins.get("state") == "held":
        kinds["lease_s"] = int | float
    if bins.get("state") == "done":
        kinds["video"] = str
    known = bins.get("state") in ("free", "held", "done", "failed")
    if not known or not all(isinstance(bins.get(name), kind) for name, kind in kinds.items()):
        return None
    held = bins["state"] == "held" and record.age < record.number("lease_s")
    return GenerationState(
        key=key,
        state=bins["state"],  # ty: ignore[invalid-argument-type]
        attempt=record.count("attempt"),
        expired_leases=record.count("expired_leases"),
        is_held=held,
        holder=record.optional_text("holder"),
        video=record.optional_text("video"),
        made_for=record.optional_text("made_for"),
        error=record.optional_text("error"),
        progress=float(bins.get("progress") or 0.0),  # ty: ignore[invalid-argument-type]
        since=record.age,
        retry_in=max(0.0, float(bins.get("retry_s") or 0.0) - record.age),  # ty: ignore[invalid-argument-type]
        exists=True,
    )


def _lost(claim: Claim) -> LeaseLost:
    return LeaseLost(f"{claim.holder} no longer holds the lease on {claim.generation} (attempt {claim.attempt})")
