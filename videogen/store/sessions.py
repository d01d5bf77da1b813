"""A client's session, one record each: its defaults, what it edits just now, and the videos that it saw last.

`revision` counts the changes of defaults and edit state. The videos are the record's map, by a count of their own, so
that a video which is done in the background is in nobody's way. Whatever is done with a session keeps it for longer.
"""

import dataclasses
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any

from videogen.errors import InvalidRequest, RecordDamaged, RecordNotFound, StoreConflict
from videogen.store.contention import until_swapped
from videogen.store.primitives import Is, MapPut, MapRemove, Record, RecordStore, Set, Write, every
from videogen.store.records import Json

RECENT = 50
"""Videos that a session remembers."""
MOST_CHARACTERS = {"defaults": 16_384, "edit_state": 262_144}
"""Of JSON, so that the whole session fits into a record of any backend."""
LONGEST_KEPT_S = 366 * 86_400.0
OPEN = Is("state", "open")
ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Session:
    """A session as it was read. `videos`: without repetition, newest first, at most `RECENT`.

    They are ids of jobs; in a session that another store brought, also digests of the videos that came with it.
    """

    tenant: str
    id: str
    revision: int
    defaults: Mapping[str, Json]
    edit_state: Json = None
    videos: tuple[str, ...] = ()


class Sessions:
    """Sessions of all tenants. `keep_s`: how long one lives after it was last read or written.

    What reads or changes one raises RecordNotFound if it ended, ran out, is another tenant's or never was, and
    RecordDamaged if it cannot be read.
    """

    kind = "session"

    def __init__(self, records: RecordStore, keep_s: float) -> None:
        if not 0 < keep_s <= LONGEST_KEPT_S:
            raise InvalidRequest("keep_s", keep_s, f"seconds above 0, at most {LONGEST_KEPT_S:,.0f}")
        self.records, self.keep_s = records, keep_s

    def create(self, tenant: str, defaults: Mapping[str, Json]) -> Session:
        """A new session under an id that cannot be guessed. Raises InvalidRequest for no JSON, or too much of it."""
        session = Session(tenant, secrets.token_urlsafe(16), 1, _merged({}, defaults))
        operations = (*_bins(session), Set("videos", 0))
        if self.records.write(Write(self.kind, _key(tenant, session.id), operations, "only", ttl=self.keep_s)) is None:
            raise StoreConflict(f"session {session.id} exists already")
        return session

    def bring_in(self, session: Session, left_s: float | None = None) -> bool:
        """Takes over a session of another store under its own id, for as long as it has left; False if it is there.

        Raises InvalidRequest for no JSON, or too much of it, and RecordNotFound for an id that no session could have.
        """
        plain = dataclasses.replace(
            session, defaults=_merged({}, session.defaults), edit_state=_plain("edit_state", session.edit_state)
        )
        oldest_first = enumerate(reversed(session.videos[:RECENT]), 1)
        videos = [MapPut(f"{number:012d}", video) for number, video in oldest_first]
        operations, ttl = (
            (*_bins(plain), Set("videos", len(videos)), *videos),
            min(left_s or self.keep_s, LONGEST_KEPT_S),
        )
        write = Write(self.kind, _key(session.tenant, session.id), operations, "only", ttl=ttl)
        return self.records.write(write) is not None

    def get(self, tenant: str, session_id: str) -> Session:
        """Reads a session, which thereby lives for another `keep_s`."""
        # Refused where no session is open, as the read then finds.
        self.records.write(Write(self.kind, _key(tenant, session_id), (), "never", OPEN, self.keep_s))
        return self._read(tenant, session_id)

    def update(
        self,
        tenant: str,
        session_id: str,
        expected_revision: int | None = None,
        defaults: Mapping[str, Json] | None = None,
        edit_state: Json | EllipsisType = ...,
    ) -> Session:
        """Sets the named defaults (None takes one away) and, unless it is left as `...`, the whole edit state.

        Without `expected_revision`, others' changes to other defaults stay, and of two edit states the later one. With
        it, raises StoreConflict if the session is not at that revision. Raises InvalidRequest for no JSON, or too much
        of it. After StoreInDoubt, `get` tells whether it happened.
        """
        changes = {} if defaults is None else defaults

        def attempt() -> Session | None:
            now = self._read(tenant, session_id)
            if expected_revision is not None and expected_revision != now.revision:
                where = f"stands at revision {now.revision}, not at {expected_revision}"
                raise StoreConflict(f"session {session_id} {where}")
            state = now.edit_state if isinstance(edit_state, EllipsisType) else _plain("edit_state", edit_state)
            changed = dataclasses.replace(
                now, revision=now.revision + 1, defaults=_merged(now.defaults, changes), edit_state=state
            )
            when = every(OPEN, Is("revision", now.revision))
            write = Write(self.kind, _key(tenant, session_id), _bins(changed), "never", when, self.keep_s)
            return changed if self.records.write(write) is not None else None

        return until_swapped(attempt, f"session {session_id}")

    def add_video(self, tenant: str, session_id: str, job_id: str) -> None:
        """Puts a video at the head of the recent ones, also one that is among them already; the oldest drop out."""
        key = _key(tenant, session_id)

        def attempt() -> Record | None:
            count = self._open(key, session_id).count("videos")
            # Only this changes the map of an open session, and only with the count: if that still stands, so does it.
            entries = self.records.map_range(self.kind, key)
            kept = [entry for entry, video in entries if video != job_id][-(RECENT - 1) :]
            dropped = [MapRemove(entry) for entry, _ in entries if entry not in kept]
            operations = (Set("videos", count + 1), MapPut(f"{count + 1:012d}", job_id), *dropped)
            when = every(OPEN, Is("videos", count))
            return self.records.write(Write(self.kind, key, operations, "never", when, self.keep_s))

        until_swapped(attempt, f"session {session_id}")

    def end(self, tenant: str, session_id: str) -> None:
        """Forgets all that a session holds. One that ended is no error, nor is one that never was."""
        key = _key(tenant, session_id)
        wiped = [MapRemove(entry) for entry, _ in self.records.map_range(self.kind, key)]
        operations = (Set("state", "ended"), Set("defaults", None), Set("edit_state", None), *wiped)
        # A store that restarts may bring back what a delete or an expiry took away, in an older version. This one
        # stays until all that was written before it has run out as well.
        self.records.write(Write(self.kind, key, operations, "never", ttl=self.keep_s))

    def _open(self, key: str, session_id: str) -> Record:
        record = self.records.read(self.kind, key)
        if record is None or record.text("state") != "open":
            raise _not_found(session_id)
        return record

    def _read(self, tenant: str, session_id: str) -> Session:
        key = _key(tenant, session_id)
        record = self._open(key, session_id)
        videos = tuple(video for _, video in reversed(self.records.map_range(self.kind, key)))
        try:
            defaults, edit_state = json.loads(record.text("defaults")), json.loads(record.text("edit_state"))
        except ValueError as error:
            raise RecordDamaged(f"session {session_id}: {error}") from error
        if not isinstance(defaults, dict):
            raise RecordDamaged(f"session {session_id}: its defaults are no object")
        return Session(tenant, session_id, record.count("revision"), defaults, edit_state, videos)


def _key(tenant: str, session_id: str) -> str:
    """No id holds a "/", so no tenant's key is another's, whatever tenants are called."""
    if not ID.fullmatch(session_id):
        raise _not_found(session_id)
    return f"{tenant}/{session_id}"


def _not_found(session_id: str) -> RecordNotFound:
    return RecordNotFound(f"there is no session {session_id[:64]!r}: it ended, ran out, or never was")


def _bins(session: Session) -> tuple[Set, ...]:
    texts = (Set(name, _text(name, getattr(session, name))) for name in MOST_CHARACTERS)
    return (Set("state", "open"), Set("revision", session.revision), *texts)


def _merged(before: Mapping[str, Json], changes: Mapping[str, Json]) -> dict[str, Json]:
    if not isinstance(changes, Mapping):
        raise InvalidRequest("defaults", changes, "an object of JSON values")
    merged = {**before, **_plain("defaults", dict(changes))}
    return {name: value for name, value in merged.items() if value is not None}


def _plain(field: str, value: Json) -> Any:
    """The value as it will be read back."""
    return json.loads(_text(field, value))


def _text(field: str, value: Json) -> str:
    try:
        text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    except RecursionError as error:
        raise InvalidRequest(field, "a value nested too deep", "JSON values") from error
    except (TypeError, ValueError) as error:
        raise InvalidRequest(field, value, f"JSON values ({error})") from error
    if len(text) > MOST_CHARACTERS[field]:
        raise InvalidRequest(field, text, f"at most {MOST_CHARACTERS[field]:,} characters of JSON")
    return text
