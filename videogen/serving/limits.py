"""How much one may ask for: requests in time per key and per tenant, streams at once, and the length of a prompt.

The buckets of requests are the store's, so all replicas share them; looks at what is there, and streams, are counted
by each replica for itself.
"""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import Generator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal

from videogen.errors import InvalidRequest, RateLimited, StoreConflict
from videogen.serving.access import Access
from videogen.serving.buckets import Buckets
from videogen.serving.jobs import Caller
from videogen.serving.telemetry.observing import Observer
from videogen.settings import ServingLimits
from videogen.store.rate_limits import Decision, RateLimit, RateLimits

Verb = Literal["look", "cancel"]
CONTENDED_S = 1.0
"""What a caller is told to wait whose bucket so many others take from that it could not be written."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of the bucket that has least left; `limit` is None where there is none."""

    limit: RateLimit | None = None
    remaining: float = 0.0

    def headers(self) -> Mapping[str, str]:
        """As OpenAI names them: what the bucket holds when it is full, what it holds now, and when it is full again."""
        if self.limit is None:
            return {}
        missing = self.limit.burst - self.remaining
        return {
            "x-ratelimit-limit-requests": f"{math.floor(self.limit.burst)}",
            "x-ratelimit-remaining-requests": f"{max(0, math.floor(self.remaining))}",
            "x-ratelimit-reset-requests": duration(missing / self.limit.per_second),
        }


class Limits:
    """Takes from a caller's buckets. A key's own limit goes before the one that the settings have for every key."""

    def __init__(
        self,
        buckets: RateLimits,
        access: Access,
        settings: ServingLimits,
        executor: Executor | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.buckets, self.access, self.executor = buckets, access, executor
        self.observer = observer or Observer()
        self.settings = settings
        self._streams = Counter[str]()
        self._reads = Buckets()

    async def take(self, caller: Caller) -> Allowance:
        """One request out of the key's bucket, then out of the tenant's: a key that asks too much spends its own only.

        Raises RateLimited, with its headers, and StoreUnavailable. Without any limit, it asks the store nothing.
        """
        left = [
            await self._take(name, limit)
            for name, limit in (
                (f"key {caller.key_id}", await self._limit_of(caller)),
                (f"tenant {caller.tenant}", self.settings.tenant),
            )
            if limit is not None
        ]
        return min(left, key=lambda one: one.remaining, default=Allowance())

    async def read(self, caller: Caller, verb: Verb = "look") -> Allowance:
        """One look out of the key's bucket, then out of the tenant's, as `take`; the store counts none of them.

        Who has looked too often may still cancel, as often again. Raises RateLimited, with its headers.
        """
        left = [
            self._judged(name, limit, self._reads.take(f"{verb} {name}", limit), verb)
            for name, limit in (
                (f"key {caller.key_id}", await self._reads_of(caller)),
                (f"tenant {caller.tenant}", self.settings.tenant_reads),
            )
            if limit is not None
        ]
        return min(left, key=lambda one: one.remaining, default=Allowance())

    def check_prompt(self, prompt: str) -> None:
        """Raises InvalidRequest for a prompt that is longer than the settings allow."""
        most = self.settings.prompt_characters
        if len(prompt) > most:
            raise InvalidRequest("prompt", prompt, f"at most {most:,} characters")

    @contextlib.contextmanager
    def stream(self, caller: Caller) -> Generator[None]:
        """Holds one of the tenant's streams on this replica. Raises RateLimited when it has all that it may have."""
        most = self.settings.tenant_streams
        if self._streams[caller.tenant] >= most:
            self.observer.refused("rate_limited")
            message = f"at most {most:,} streams at once for a tenant: end one, or ask without a stream"
            raise RateLimited(message, CONTENDED_S, _retry_after(CONTENDED_S))
        self._streams[caller.tenant] += 1
        try:
            yield
        finally:
            self._streams[caller.tenant] -= 1
            if not self._streams[caller.tenant]:
                del self._streams[caller.tenant]

    async def _limit_of(self, caller: Caller) -> RateLimit | None:
        if caller.key_id is None:
            return None
        return (await self.access.key(caller.key_id)).limit or self.settings.key

    async def _reads_of(self, caller: Caller) -> RateLimit | None:
        if caller.key_id is None:
            return None
        return (await self.access.key(caller.key_id)).reads or self.settings.key_reads

    async def _take(self, name: str, limit: RateLimit) -> Allowance:
        loop = asyncio.get_running_loop()
        try:
            decision = await loop.run_in_executor(self.executor, self.buckets.take, name, limit)
        except StoreConflict as error:
            self.observer.refused("rate_limited")
            raise RateLimited(f"too many requests at once of {name}", CONTENDED_S, _retry_after(CONTENDED_S)) from error
        return self._judged(name, limit, decision, "ask")

    def _judged(self, name: str, limit: RateLimit, decision: Decision, verb: str) -> Allowance:
        allowance = Allowance(limit, decision.remaining)
        if not decision.allowed:
            self.observer.refused("rate_limited")
            raise _refused(f"{name} may {verb}", limit, decision, allowance)
        return allowance


def duration(seconds: float) -> str:
    """As OpenAI writes it: "120ms", "1s", "6m0s", "2h0m0s"; rounded up."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    whole = math.ceil(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _refused(who_may: str, limit: RateLimit, decision: Decision, allowance: Allowance) -> RateLimited:
    message = (
        f"{who_may} {limit.per_second * 60:g} times a minute, {limit.burst:g} at once; "
        f"try again in {duration(decision.retry_after_s)}"
    )
    headers = {**allowance.headers(), **_retry_after(decision.retry_after_s)}
    return RateLimited(message, decision.retry_after_s, headers)


def _retry_after(seconds: float) -> dict[str, str]:
    return {"retry-after": f"{math.ceil(seconds)}"}
