"""API keys: whose they are and what they may, one record each; the secret itself is never stored.

A key is `vg_<id>_<secret>`: the id finds the record in one read, the secret is 256 random bits. Only its SHA-256 is
kept. A slow, salted hash such as Argon2 is for passwords, which can be guessed from a list; among 2^256 equally likely
secrets there is nothing to guess, no two are alike for a salt to tell apart, and a fast hash keeps the check cheap.

The ids stand in the map of one record, put there before the key's own: an id without a record is what a crash left.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from videogen.errors import InvalidRequest, RecordNotFound, StoreConflict
from videogen.store.primitives import KEYS_AT_ONCE, MapPut, Record, RecordStore, Set, Write
from videogen.store.rate_limits import RateLimit

Scope = Literal["user", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

MOST = 10_000
"""Keys of one store, the revoked ones too: their ids share a record."""
MOST_NOTE_CHARACTERS = 200
SHAPE = re.compile(r"vg_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")
TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the store knows it. Times in seconds of the store's clock.

    `limit` is of requests, `reads` of looks at what is there; None: as the service's settings say. A revoked key is
    kept, so that its id says in the logs whose it was.
    """

    id: str
    tenant: str
    scopes: frozenset[Scope]
    digest: str
    note: str = ""
    created_at: float = 0.0
    revoked_at: float | None = None
    limit: RateLimit | None = None
    reads: RateLimit | None = None

    def accepts(self, secret: str) -> bool:
        """Is this its secret, and is it not revoked? Takes equally long for every wrong one."""
        return hmac.compare_digest(self.digest, _digest(secret)) and self.revoked_at is None


def split(text: str) -> tuple[str, str] | None:
    """Id and secret of a key as its owner holds it, None for what has not a key's form."""
    found = SHAPE.fullmatch(text)
    return None if found is None else (found[1], found[2])


class ApiKeys:
    """The keys of all tenants. What reads one raises RecordDamaged if it cannot be read."""

    kind, index_kind = "api-key", "api-keys"

    def __init__(self, records: RecordStore) -> None:
        self.records = records

    def create(
        self,
        tenant: str,
        scopes: Iterable[Scope] = ("user",),
        note: str = "",
        limit: RateLimit | None = None,
        reads: RateLimit | None = None,
    ) -> tuple[str, ApiKey]:
        """A new key, which only this return ever shows, and its record. `admin` may do what `user` may.

        Raises InvalidRequest for a tenant's name, a scope or a note that is not allowed, and if there are too many.
        """
        if not TENANT.fullmatch(tenant):
            raise InvalidRequest("tenant", tenant, "1 to 64 letters, digits, '.', '_' and '-', a letter or digit first")
        given = set(scopes)
        if not given or not given <= set(SCOPES):
            raise InvalidRequest("scope", sorted(given), f"one or more of {', '.join(SCOPES)}")
        if len(note) > MOST_NOTE_CHARACTERS or not note.isprintable():
            raise InvalidRequest("note", note, f"one line of at most {MOST_NOTE_CHARACTERS} characters")
        if len(self._ids()) >= MOST:
            raise InvalidRequest("keys", MOST + 1, f"at most {MOST:,} keys in a store, with the revoked ones")
        granted = frozenset(scope for scope in SCOPES if scope in given or scope == "user")
        key_id, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
        key = ApiKey(key_id, tenant, granted, _digest(secret), note, self.records.now(), limit=limit, reads=reads)
        self.records.write(Write(self.index_kind, "all", (MapPut(key_id),)))
        if self.records.write(Write(self.kind, key_id, _bins(key), "only")) is None:
            raise StoreConflict(f"key {key_id} exists already")
        return f"vg_{key_id}_{secret}", key

    def get(self, key_id: str) -> ApiKey:
        """One read of one record. Raises RecordNotFound."""
        record = self.records.read(self.kind, key_id)
        if record is None:
            raise RecordNotFound(f"there is no API key {key_id[:64]!r}")
        return _key(key_id, record)

    def find_all(self) -> list[ApiKey]:
        """Every key, the oldest first, the revoked ones too."""
        ids, found = self._ids(), []
        for start in range(0, len(ids), KEYS_AT_ONCE):
            part = ids[start : start + KEYS_AT_ONCE]
            for key_id, record in zip(part, self.records.read_many(self.kind, part), strict=True):
                if isinstance(record, Exception):
                    raise record
                if record is not None:
                    found.append(_key(key_id, record))
        return sorted(found, key=lambda key: key.created_at)

    def revoke(self, key_id: str) -> ApiKey:
        """Ends a key for good; one that is revoked stays as it is. Raises RecordNotFound."""
        key = self.get(key_id)
        if key.revoked_at is not None:
            return key
        at = self.records.now()
        if self.records.write(Write(self.kind, key_id, (Set("revoked_at", at),), "never")) is None:
            raise RecordNotFound(f"there is no API key {key_id[:64]!r}")
        return replace(key, revoked_at=at)

    def were_made(self) -> bool:
        """Was ever a key made? Revoking the last one does not open a service again."""
        return bool(self.records.map_range(self.index_kind, "all", limit=1))

    def _ids(self) -> list[str]:
        return [key_id for page in self.records.map_pages(self.index_kind, "all") for key_id, _ in page]


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _bins(key: ApiKey) -> tuple[Set, ...]:
    return (
        Set("tenant", key.tenant),
        Set("scopes", sorted(key.scopes)),
        Set("digest", key.digest),
        Set("note", key.note),
        Set("created_at", key.created_at),
        *_set("", key.limit),
        *_set("read_", key.reads),
    )


def _set(prefix: str, limit: RateLimit | None) -> tuple[Set, ...]:
    if limit is None:
        return ()
    return Set(f"{prefix}per_second", limit.per_second), Set(f"{prefix}burst", limit.burst)


def _limit(prefix: str, record: Record) -> RateLimit | None:
    if record.bins.get(f"{prefix}per_second") is None:
        return None
    return RateLimit(record.number(f"{prefix}per_second"), record.number(f"{prefix}burst"))


def _key(key_id: str, record: Record) -> ApiKey:
    return ApiKey(
        id=key_id,
        tenant=record.text("tenant"),
        scopes=frozenset(scope for scope in SCOPES if scope in record.texts("scopes")),
        digest=record.text("digest"),
        note=record.text("note"),
        created_at=record.number("created_at"),
        revoked_at=None if record.bins.get("revoked_at") is None else record.number("revoked_at"),
        limit=_limit("", record),
        reads=_limit("read_", record),
    )
