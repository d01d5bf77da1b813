"""Which of two stores holds the latest of a record, and its copy to the other.

An accepted write is in both, or in the primary and marked as missed in the other. So where the other is ahead of the
primary, or holds what the primary lacks, the primary has lost something, as a server may that was killed. What it gets
back begins a new era of the record: whoever wrote in the old one and was not followed yet learns that it is in doubt.
"""

import random
import secrets
import time
from dataclasses import replace
from typing import Literal

from videogen.errors import StoreInDoubt, StoreUnavailable
from videogen.store.moving.copying import COPYING, LAST_WRITE, REVISION, Name, Read, copy_record
from videogen.store.primitives import Is, Record, RecordStore, Set, Write, every

Outcome = Literal["same", "copied", "restored", "busy"]
"""The secondary was made like the primary, the primary like the secondary, or the secondary is for others to mend."""
Head = tuple[int, object]
"""A record's revision and the id of its last write."""
ERA_BITS = 40
"""A revision counts writes, and above these bits how often the primary got the record back."""
TRIES, PAUSE_S = 20, 0.005
EXPIRING_S = 5.0
"""A record that has so little left may be gone from one store a moment before it is from the other."""
ABANDONED_S = 10.0
"""A copy without a write for so long is another's to finish."""


class Unsettled(StoreInDoubt):
    """The primary took a write, and lost it or is losing it."""


def settle(
    name: Name,
    primary: RecordStore,
    secondary: RecordStore,
    is_missed: bool = False,
    only_restore: bool = False,
    different: bool = False,
    reached: Head | None = None,
) -> Outcome:
    """Makes both hold the same of one record.

    `is_missed`: the secondary is known to be behind. `only_restore`: leaves it behind, and mends the primary alone.
    `different`: what they hold differs even if their heads do not. `reached`: a write that the primary took; returns
    as soon as the secondary has got so far, and raises Unsettled if the primary has not kept it.
    """
    for tried in range(TRIES):
        time.sleep(random.uniform(0, PAUSE_S * tried))
        behind = _read(secondary, name)  # read first, so that whatever it holds was in the primary before
        ahead = _read(primary, name)
        if _is_being_copied(ahead):
            continue
        lost = is_lost(ahead, behind, is_missed)
        if lost and isinstance(behind, Record) and _restore(name, secondary, behind, primary, ahead):
            if reached is not None:
                raise Unsettled(f"{' '.join(name)}: the primary had lost what it held, and has it back")
            return "restored"
        if lost:
            continue
        has_expired = ahead is None and isinstance(behind, Record) and _is_expiring(behind)
        if reached is not None and not has_expired:
            _check_kept(name, reached, ahead)
        if not different and _is_even(ahead, behind, reached):
            return "same"
        if only_restore or not isinstance(ahead, Record):
            if is_missed and ahead is None and isinstance(behind, Record) and behind.expires_in is None:
                secondary.write(Write(*name, (), "never", ttl=1.0))  # the primary's has expired meanwhile
            return "same"
        if not _is_being_copied(behind) and copy_record(name, primary, ahead, secondary, behind):
            return "copied"
    if _is_being_copied(_read(primary, name)):
        raise Unsettled(f"{' '.join(name)}: the primary is getting it back")
    return "busy"


def _read(records: RecordStore, name: Name) -> Read:
    return records.read_many(name[0], [name[1]], aged=True)[0]


def is_lost(ahead: Read, behind: Read, is_missed: bool = False) -> bool:
    """Does the primary lack what was accepted?"""
    if not isinstance(behind, Record) or _head(behind)[0] == COPYING:
        return False
    if isinstance(ahead, Record) and _head(ahead)[0] == COPYING:
        return True
    if is_missed or _is_expiring(behind):
        return False
    if not isinstance(ahead, Record) or _head(behind)[0] > _head(ahead)[0]:
        return True
    # With equal revisions, the primary's last write came after the loss, and was not accepted yet.
    return _head(behind)[0] == _head(ahead)[0] and _head(behind) != _head(ahead)


def _check_kept(name: Name, reached: Head, ahead: Read) -> None:
    revision, last = _head(ahead)
    same_era = revision >> ERA_BITS == reached[0] >> ERA_BITS
    if not same_era or revision < reached[0] or (revision == reached[0] and last != reached[1]):
        raise Unsettled(f"{' '.join(name)}: the primary lost a write, or was given back another")


def _is_even(ahead: Read, behind: Read, reached: Head | None) -> bool:
    """Do both hold the same, or the secondary at least the write that it is about?"""
    if type(ahead) is type(behind) and _head(ahead) == _head(behind):
        return True
    return reached is not None and (_head(behind) == reached or reached[0] < _head(behind)[0] < _head(ahead)[0])


def _restore(name: Name, secondary: RecordStore, record: Record, primary: RecordStore, over: Read) -> bool:
    revision, last = _head(record)
    new = {REVISION: revision + (1 << ERA_BITS), LAST_WRITE: secrets.token_hex(8)}
    try:
        if not copy_record(name, secondary, replace(record, bins=record.bins | new), primary, over):
            return False
    except StoreUnavailable as error:
        raise Unsettled(str(error)) from error
    unmoved = every(Is(REVISION, record.bins.get(REVISION)), Is(LAST_WRITE, last if isinstance(last, str) else None))
    head = tuple(Set(name, value) for name, value in new.items())
    secondary.write(Write(*name, head, "never", unmoved))
    return True


def _head(record: Read) -> Head:
    if not isinstance(record, Record):
        return 0, None
    return record.count(REVISION), record.bins.get(LAST_WRITE)


def era(record: Read) -> int:
    """How often the primary got the record back."""
    return _head(record)[0] >> ERA_BITS


def _is_expiring(record: Record) -> bool:
    return record.expires_in is not None and record.expires_in <= EXPIRING_S


def _is_being_copied(record: Read) -> bool:
    return isinstance(record, Record) and _head(record)[0] == COPYING and record.age < ABANDONED_S
