"""Two stores that hold the same: each write goes to the primary, which judges it, and then to the other.

Every record carries its revision and the id of its last write. The other store takes a write only at the revision that
the primary had before it, so both go through the same states; what comes out of turn waits a moment, then the whole
record is copied. A write is accepted when both hold it, or when the primary does and lists it as missed by the other:
see `Missed`. Without the primary nothing is accepted. `videogen store cut-over` changes the roles.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from videogen.errors import RecordDamaged, StoreInDoubt, StoreUnavailable
from videogen.findings import Finding
from videogen.store.backends.doubt import write_ids
from videogen.store.backends.dual.roles import Pairing, Roles
from videogen.store.backends.dual.settle import EXPIRING_S, Unsettled, era, is_lost, settle
from videogen.store.backends.dual.sides import Side
from videogen.store.moving.copying import COPYING, LAST_WRITE, OWN_KINDS, REVISION, Name
from videogen.store.primitives import (
    Add,
    BackendFacts,
    Condition,
    Either,
    Every,
    Is,
    Record,
    RecordStore,
    Set,
    Write,
)

TURN_PAUSES_S = (0.0, 0.001, 0.002, 0.004, 0.008, 0.016)
TRIES = 10
MOST_KNOWN = 10_000
"""Names of records that are remembered as being there, so that this is not tried again."""
HEAD = (REVISION, LAST_WRITE)


@dataclass(frozen=True, slots=True)
class Taken:
    """A write that the primary took, as the revision that it gave."""

    write: Write
    revision: int
    id: str

    @property
    def name(self) -> Name:
        return self.write.kind, self.write.key

    @property
    def can_follow(self) -> bool:
        """Does it alone make of the revision before what the primary holds? A first one may be on an older record."""
        return self.revision > 1 or (self.revision == 1 and self.write.create == "only")

    def mirrored(self) -> Write:
        head = (Set(REVISION, self.revision), Set(LAST_WRITE, self.id))
        operations = (*(one for one in self.write.operations if not isinstance(one, Set) or one.bin not in HEAD), *head)
        if self.revision == 1:
            return replace(self.write, operations=operations, create="only", when=None)
        return replace(self.write, operations=operations, create="never", when=Is(REVISION, self.revision - 1))


class DualRecordStore(RecordStore):
    """`one` is the primary where no pointer says otherwise; all processes must name the same two."""

    def __init__(self, one: Side, other: Side) -> None:
        self.pair, self.counts = Pairing(one, other), Counter[str]()
        """`counts`, since this was opened: writes "mirrored" and "missed", records "copied" and "restored"."""
        self._ids, self._latest, self._known = write_ids(), 0.0, set[Name]()

    # Reading

    def now(self) -> float:
        self._latest = max(self._latest, self._primary().now())
        return self._latest

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        found = self._primary().read_many(kind, keys, aged)
        lacking = [key for key, record in zip(keys, found, strict=True) if _is_lacking(record)]
        if lacking and self._brought_back(kind, lacking):
            found = self._primary().read_many(kind, keys, aged)
        for record in found:
            _without_head(record)
        return found

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        found = self._primary().map_range(kind, key, after, limit)
        if not found and not after and self._brought_back(kind, [key]):
            return self._primary().map_range(kind, key, after, limit)
        return found

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        found = self._primary().map_heads(kind, keys, limit)
        lacking = [key for key, entries in zip(keys, found, strict=True) if not entries]
        if lacking and self._brought_back(kind, lacking):
            return self._primary().map_heads(kind, keys, limit)
        return found

    def names(self) -> Iterator[Name]:
        return (name for name in self._primary().names() if not name[0].startswith(OWN_KINDS))

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        return self._primary().keys(kind, since)

    def _primary(self) -> RecordStore:
        return self.pair.primary(self.pair.roles())

    def _brought_back(self, kind: str, keys: Sequence[str]) -> bool:
        """May the primary hold again what it lacked a moment ago, because the secondary holds it?"""
        roles = self.pair.roles()
        if roles.secondary.away:
            return False
        try:
            there = roles.secondary.records.read_many(kind, keys)
            held = [key for key, record in zip(keys, there, strict=True) if isinstance(record, Record)]
            for key in held:
                self._bring_back(roles, (kind, key))
        except Unsettled:
            raise
        except StoreUnavailable:
            self.pair.gone(roles.secondary)
            return False
        return bool(held)

    def _bring_back(self, roles: Roles, name: Name) -> None:
        is_missed = self.pair.missed_by(roles.primary).has(name)
        outcome = settle(name, roles.primary.records, roles.secondary.records, is_missed, only_restore=True)
        self.counts[outcome] += outcome != "same"

    # Writing

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        found: dict[int, Record | None] = {}
        as_new = {at: replace(write, create="only") for at, write in enumerate(writes) if self._may_be_new(write)}
        left, eras = dict(enumerate(writes)) | as_new, dict[int, int]()
        for _ in range(TRIES):
            left = self._write_some(left, found, eras)
            left |= {at: writes[at] for at in as_new if found.get(at) is None}
            as_new = {}
            if not left:
                return [found[at] for at in range(len(writes))]
        raise StoreInDoubt(f"{len(left)} writes: the primary loses what it was given, {TRIES} times in a row")

    def _may_be_new(self, write: Write) -> bool:
        """Is it worth trying whether the record is new? Only then is it known that the secondary needs no more."""
        name = write.kind, write.key
        if write.create != "allow" or name in self._known:
            return False
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(name)
        return True

    def _write_some(
        self, writes: dict[int, Write], found: dict[int, Record | None], eras: dict[int, int]
    ) -> dict[int, Write]:
        """Writes what can be; gives the writes that the primary refused by what it should not have lost.

        `eras`: those of the records of refused writes, as they were seen last.
        """
        roles, ids = self.pair.roles(for_writing=True), {at: next(self._ids) for at in writes}
        told = [_with_head(write, ids[at]) for at, write in writes.items()]
        done = dict(zip(writes, self._judged(roles, told), strict=True))
        taken = {at: Taken(writes[at], record.count(REVISION), ids[at]) for at, record in done.items() if record}
        self._follow_all(roles, taken)
        again = self._wrongly_refused(roles, {at: writes[at] for at in writes.keys() - taken.keys()}, eras)
        found |= {at: _without_head(record) for at, record in done.items() if at not in again}
        self.pair.check(roles)
        return {at: writes[at] for at in again}

    def _judged(self, roles: Roles, writes: Sequence[Write]) -> list[Record | None]:
        try:
            return self.pair.primary(roles).write_many(writes)
        except StoreUnavailable:
            self.pair.mender.wake(compare=True)
            raise

    def _follow_all(self, roles: Roles, taken: dict[int, Taken]) -> None:
        """Brings writes to the secondary, or lists them as missed. Raises StoreInDoubt where the primary lost them."""
        left = dict(taken)
        try:
            if left and not roles.secondary.away:
                for at in self._follow_at_once(roles, taken):
                    del left[at]
                for at, one in list(left.items()):
                    self._follow(roles, one)
                    del left[at]
        except Unsettled:
            self.pair.mender.wake(compare=True)
            raise
        except StoreUnavailable:
            self.pair.gone(roles.secondary)
        if left:
            self._miss(roles, left.values())

    def _follow_at_once(self, roles: Roles, taken: dict[int, Taken]) -> list[int]:
        able = {at: one.mirrored() for at, one in taken.items() if one.can_follow}
        done = zip(able, roles.secondary.records.write_many(list(able.values())) if able else (), strict=True)
        followed = [at for at, record in done if record is not None]
        self.counts["mirrored"] += len(followed)
        return followed

    def _follow(self, roles: Roles, one: Taken) -> None:
        """Brings a write that came out of turn, or may be on an older record."""
        secondary = roles.secondary.records
        for pause in TURN_PAUSES_S if one.can_follow else ():
            time.sleep(pause)
            record = secondary.read_many(one.write.kind, [one.write.key])[0]
            if isinstance(record, RecordDamaged):
                break
            revision = 0 if record is None else record.count(REVISION)
            if revision == one.revision - 1 and secondary.write(one.mirrored()) is not None:
                self.counts["mirrored"] += 1
                return
            if revision >= one.revision:
                break
        lives_on = not one.write.ttl or one.write.ttl > EXPIRING_S  # else it may be gone already
        reached = (one.revision, one.id) if lives_on else None
        outcome = settle(one.name, roles.primary.records, secondary, reached=reached)
        self.counts[outcome] += 1
        if outcome == "busy":
            self._miss(roles, [one])

    def _miss(self, roles: Roles, missed: Iterable[Taken]) -> None:
        names = [one.name for one in missed]
        try:
            self.pair.missed_by(roles.primary).mark(names, next(self._ids))
        except StoreUnavailable as error:
            raise StoreInDoubt(f"written to {roles.primary.name} alone, and not listed as such: {error}") from error
        self.counts["missed"] += len(names)
        self.pair.mender.wake()

    def _wrongly_refused(self, roles: Roles, refused: dict[int, Write], eras: dict[int, int]) -> list[int]:
        """Of refused writes, those on records that the primary lacked and has back, whoever brought them."""
        changes = {at: write for at, write in refused.items() if write.create == "never"}
        if roles.secondary.away:
            return []
        try:
            return [at for at, write in changes.items() if self._began_again(roles, at, write, eras)]
        except Unsettled:
            raise
        except StoreUnavailable:
            self.pair.gone(roles.secondary)
            return []

    def _began_again(self, roles: Roles, at: int, write: Write, eras: dict[int, int]) -> bool:
        name, primary = (write.kind, write.key), roles.primary.records
        behind, ahead = (side.read_many(name[0], [name[1]])[0] for side in (roles.secondary.records, primary))
        if is_lost(ahead, behind):
            self._bring_back(roles, name)
            ahead = primary.read_many(name[0], [name[1]])[0]
        before, eras[at] = eras.get(at, 0), era(ahead)
        return eras[at] > before

    # Both

    def flush(self) -> None:
        self._primary().flush()
        self._with_secondary(lambda records: records.flush())

    def purge(self) -> int:
        self._with_secondary(lambda records: records.purge())
        return self._primary().purge()

    def _with_secondary(self, work: Callable[[RecordStore], object]) -> None:
        secondary = self.pair.roles().secondary
        try:
            if not secondary.away:
                work(secondary.records)
        except StoreUnavailable:
            self.pair.gone(secondary)

    def examine(self) -> list[Finding]:
        roles = self.pair.roles()
        findings = []
        for side in (roles.primary, roles.secondary):
            findings += self._examined(side, "primary" if side is roles.primary else "the other")
        missed = sum(1 for _ in self.pair.missed_by(roles.primary).marks())
        state = "fix" if missed else "ok"
        return [
            *findings,
            Finding(state, f"{missed:,} records missed by the other", "videogen store repair" * bool(missed)),
        ]

    def _examined(self, side: Side, role: str) -> list[Finding]:
        try:
            return [replace(one, what=f"{role}: {one.what}") for one in side.records.examine()]
        except StoreUnavailable as error:
            return [Finding("fix", f"{role}: {error}", f"start {side.name}")]

    def facts(self) -> BackendFacts:
        roles = self.pair.roles()
        facts, missed = self.pair.primary(roles).facts(), self.pair.missed_by(roles.primary).count()
        return replace(facts, where=f"dual:{roles.primary.name}|{roles.secondary.name}", missed=missed)

    def close(self) -> None:
        self.pair.close()


def _is_lacking(record: Record | RecordDamaged | None) -> bool:
    """Is it not there, or still being brought back?"""
    return not isinstance(record, Record) or record.bins.get(REVISION) == COPYING


def _with_head(write: Write, write_id: str) -> Write:
    """With this pair's head in place of one that a copy from elsewhere would put or ask for."""
    own = [one for one in write.operations if not (isinstance(one, Set) and one.bin in HEAD)]
    when = None if write.when is None else _of_head(write.when)
    return replace(write, operations=(*own, Add(REVISION, 1), Set(LAST_WRITE, write_id)), when=when)


def _of_head(condition: Condition) -> Condition:
    """The condition without what it says of the head, which nobody outside sees."""
    match condition:
        case Is(bin, _) if bin in HEAD:
            return Every(())
        case Every(parts):
            return Every(tuple(map(_of_head, parts)))
        case Either(parts):
            return Either(tuple(map(_of_head, parts)))
    return condition


Found = TypeVar("Found", bound=Record | RecordDamaged | None)


def _without_head(record: Found) -> Found:
    if isinstance(record, Record):
        record.bins.pop(REVISION, None)
        record.bins.pop(LAST_WRITE, None)
    return record
