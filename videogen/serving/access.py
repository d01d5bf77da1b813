"""Who calls: API keys to callers, and where a service may listen without any.

A key is looked up in the store once in `KNOWN_FOR_S` and kept in this process meanwhile, so a revoked key is refused
everywhere that many seconds after it was revoked, at the latest.
"""

import asyncio
import contextlib
import functools
import ipaddress
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

from videogen.errors import Forbidden, InvalidRequest, RecordNotFound, Unauthenticated
from videogen.serving.jobs import Caller
from videogen.store.api_keys import SCOPES, ApiKey, ApiKeys, Scope, split

T = TypeVar("T")
KNOWN_FOR_S = 5.0
MOST_KNOWN = 10_000
ANYBODY = Caller(tenant="default", key_id=None, scopes=frozenset(SCOPES))
"""Whoever calls a service that has no keys, over loopback or with `--insecure`."""
HOW = "expected the header 'Authorization: Bearer vg_…' with a key from `videogen keys create`"
NO_KEY = f"what the header 'Authorization' holds is not an API key of this service: {HOW}"


class Access:
    """Callers by their keys. `insecure`: while no key was ever made, other machines may call without one too.

    Store calls run in `executor` (asyncio's own if None), never on the loop. All methods belong to one event loop.
    """

    def __init__(
        self,
        keys: ApiKeys,
        *,
        insecure: bool = False,
        executor: Executor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.keys, self.insecure, self.executor, self.clock = keys, insecure, executor, clock
        self._known: dict[str, tuple[float, asyncio.Task[ApiKey]]] = {}
        self._made: tuple[float, asyncio.Task[bool]] | None = None

    async def authenticate(self, authorization: str | None, peer_is_loopback: bool) -> Caller:
        """Who sent the header `Authorization`, if any; everybody while no key was made and the peer may do without.

        Raises Unauthenticated for a missing, malformed, unknown or revoked key, and StoreUnavailable.
        """
        if (peer_is_loopback or self.insecure) and not await self._were_made():
            return ANYBODY
        if not authorization:
            raise Unauthenticated(f"no API key: {HOW}")
        scheme, _, text = authorization.partition(" ")
        parts = split(text.strip()) if scheme.lower() == "bearer" else None
        if parts is None:
            raise Unauthenticated(NO_KEY)
        try:
            key = await self.key(parts[0])
        except RecordNotFound as error:
            raise Unauthenticated("the API key is unknown or revoked") from error
        if not key.accepts(parts[1]):
            raise Unauthenticated("the API key is unknown or revoked")
        return Caller(tenant=key.tenant, key_id=key.id, scopes=key.scopes)

    async def key(self, key_id: str) -> ApiKey:
        """A key's record, at most `KNOWN_FOR_S` old. Raises RecordNotFound and StoreUnavailable."""
        found = self._known.get(key_id)
        if found is None or self.clock() >= found[0]:
            found = self._ask(lambda: self.keys.get(key_id))
            self._known.pop(key_id, None)
            while len(self._known) >= MOST_KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[key_id] = found
        try:
            return await asyncio.shield(found[1])
        except Exception:
            if self._known.get(key_id) is found:
                del self._known[key_id]
            raise

    async def _were_made(self) -> bool:
        found = self._made
        if found is None or self.clock() >= found[0]:
            found = self._made = self._ask(self.keys.were_made)
        try:
            return await asyncio.shield(found[1])
        except Exception:
            if self._made is found:
                self._made = None
            raise

    def _ask(self, read: Callable[[], T]) -> tuple[float, "asyncio.Task[T]"]:
        """One read for all who want it now: what it finds is known for a while, counted from before it is read."""

        async def ask() -> T:
            return await asyncio.get_running_loop().run_in_executor(self.executor, read)

        return self.clock() + KNOWN_FOR_S, asyncio.ensure_future(ask())


def require(caller: Caller, scope: Scope) -> None:
    """Raises Forbidden unless the caller's key has the scope."""
    if scope not in caller.scopes:
        raise Forbidden(f"this needs an API key of scope {scope}; the given one has {', '.join(sorted(caller.scopes))}")


@functools.lru_cache(maxsize=1024)
def is_loopback(host: str) -> bool:
    """Does this address, or the name "localhost", stay on this machine? Any other name does not."""
    with contextlib.suppress(ValueError):
        address = ipaddress.ip_address(host.strip("[]"))
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address).is_loopback
    return host == "localhost"


def check_bind(host: str, has_keys: bool, insecure: bool) -> None:
    """Raises InvalidRequest if other machines could call without a key, unless somebody said that they may."""
    if not (is_loopback(host) or has_keys or insecure):
        allowed = "a loopback address such as 127.0.0.1, as long as there are no API keys"
        mend = "make one first (videogen keys create), or say --insecure to let anybody in"
        raise InvalidRequest("host", host, f"{allowed}: {mend}")
