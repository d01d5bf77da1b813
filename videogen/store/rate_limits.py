"""Token buckets, one record each: what was taken of it flows back with time, by the store's own clock.

A record holds `spent`, the tokens that were missing from the full bucket when it was last written; since then its age
tells what has flowed back. No record is a full bucket, so one that is full again expires.

What flows back between a take's read and its write is lost, so a bucket gives no more than it may, and a little less
under pressure: with 1 ms between the two, a hundredth less at 10 takes a second and a tenth less at 100.
"""

import hashlib
import math
import secrets
from dataclasses import dataclass

from videogen.errors import InvalidRequest, RecordDamaged
from videogen.store.contention import until_swapped
from videogen.store.primitives import Is, Record, RecordStore, Set, Write

MOST = 1e9
"""Tokens, and tokens per second."""
LONGEST_REFILL_S = 366 * 86_400.0
"""The longest that an empty bucket may take to be full: backends bound how far off an expiry may be."""
CLOCK_STEP_S = 0.002
"""Ages are exact to a millisecond at worst; whoever waits this much longer is not refused for a rounding."""
LATE_S = 1.0
"""A bucket expires this long after it is full, never before: some backends count expiry in whole seconds."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """`burst` tokens at once, and `per_second` in the long run. Raises InvalidRequest."""

    per_second: float
    burst: float

    def __post_init__(self) -> None:
        _check("per_second", self.per_second, MOST)
        _check("burst", self.burst, MOST)
        if self.burst > self.per_second * LONGEST_REFILL_S:
            least = self.burst / LONGEST_REFILL_S
            raise InvalidRequest("per_second", self.per_second, f"at least {least:g}, to be full again within a year")

    @classmethod
    def per_minute(cls, rpm: float, burst: float | None = None) -> "RateLimit":
        """`rpm` tokens a minute, `burst` of them at once: a whole minute's if None. Raises InvalidRequest."""
        _check("rpm", rpm, MOST)
        if burst is not None and burst < 1:
            raise InvalidRequest("burst", burst, "1 or more, or no request would ever pass")
        return cls(rpm / 60, max(1.0, rpm) if burst is None else burst)


@dataclass(frozen=True, slots=True)
class Decision:
    """`retry_after_s`: 0 if allowed, else the wait until the same take is allowed if nobody else takes meanwhile.

    `remaining`: the tokens in the bucket now.
    """

    allowed: bool
    retry_after_s: float
    remaining: float


class RateLimits:
    """A bucket for each name, which may be a secret: the store sees only its digest."""

    kind = "rate-limit"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def take(self, name: str, limit: RateLimit, tokens: float = 1.0) -> Decision:
        """Takes `tokens` out of the bucket if they are in it, else nothing.

        A changed limit holds from the next take on. Raises InvalidRequest if `tokens` are not more than 0 or more than
        the bucket can hold, StoreConflict if others took first again and again, and StoreUnavailable; of these,
        StoreInDoubt leaves open whether the tokens were taken.
        """
        _check("tokens", tokens, limit.burst)
        key = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
        return until_swapped(lambda: self._take(key, limit, tokens), f"rate limit {key[:12]}")

    def _take(self, key: str, limit: RateLimit, tokens: float) -> Decision | None:
        found = self.records.read_many(self.kind, [key], aged=True)[0]
        decision = judged(_spent(found, limit), limit, tokens)
        was_set_back = isinstance(found, Record) and found.age == math.inf
        if decision.allowed or was_set_back:
            return decision if self._swap(key, found, limit.burst - decision.remaining, limit) else None
        return decision

    def _swap(self, key: str, found: Record | RecordDamaged | None, spent: float, limit: RateLimit) -> bool:
        # A random revision, as a counted one starts again with the bucket: an old reading could pass for a new one.
        operations = (Set("spent", float(spent)), Set("revision", secrets.token_hex(8)))
        ttl = spent / limit.per_second + LATE_S
        if isinstance(found, Record):
            write = Write(self.kind, key, operations, "never", Is("revision", found.bins.get("revision")), ttl)
        else:
            write = Write(self.kind, key, operations, "only" if found is None else "allow", ttl=ttl)
        return self.records.write(write) is not None


def judged(spent: float, limit: RateLimit, tokens: float = 1.0) -> Decision:
    """Whether a bucket from which `spent` tokens are missing has as many as are asked for."""
    left = limit.burst - spent - tokens
    if left >= 0:
        return Decision(True, 0.0, left)
    return Decision(False, -left / limit.per_second + CLOCK_STEP_S, limit.burst - spent)


def _spent(found: Record | RecordDamaged | None, limit: RateLimit) -> float:
    """Tokens that are missing from the full bucket by now; a damaged record starts afresh."""
    before = found.bins.get("spent") if isinstance(found, Record) else None
    if not isinstance(found, Record) or not isinstance(before, int | float):
        return 0.0
    # An endless age says that the store's clock was set back. How long it was is unknown, so nothing flowed back, and
    # the age has to start again, even for a take that is refused.
    elapsed = 0.0 if found.age == math.inf else found.age
    return max(0.0, min(before, limit.burst) - elapsed * limit.per_second)


def _check(field: str, value: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise InvalidRequest(field, value, f"a number above 0, at most {most:g}")
