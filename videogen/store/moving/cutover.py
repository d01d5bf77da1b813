"""The other of two stores becomes the primary, after all was compared, in a moment in which nobody writes.

Every process that writes asks at least each `POINTER_S` who is the primary, and stops writing when it sees that this
is being changed. So a moment later nobody writes, what is left to be copied is little, and the pointer is moved. Both
go on to hold the same, so the way back is the same way.
"""

import time
from collections.abc import Callable, Iterable

from videogen.errors import InvalidRequest, RecordNotFound, StoreConflict, StoreUnavailable
from videogen.store.backends.dual import pointer
from videogen.store.backends.dual.mending import repair, replay
from videogen.store.backends.dual.missed import Missed
from videogen.store.backends.dual.pair import DualRecordStore
from videogen.store.backends.dual.pointer import Standing
from videogen.store.backends.dual.roles import CALL_S, POINTER_S
from videogen.store.backends.dual.settle import settle
from videogen.store.backends.dual.sides import Side
from videogen.store.moving.copying import Name
from videogen.store.moving.migration import MOST_NAMED, Pair, compare
from videogen.store.primitives import RecordStore

MOST_SKEW_S = 2.0
"""By which the clocks of the two may differ: deadlines and expiries are compared with the primary's."""
Tell = Callable[[str], None]


def cut_over(dual: DualRecordStore, to: str, tell: Tell = lambda text: None) -> Standing:
    """Makes the side called `to` the primary; where it is that already, nothing happens.

    Raises InvalidRequest, StoreUnavailable if one does not answer, and StoreConflict, with all as it was, if the two
    are not the same or somebody else moves the pointer.
    """
    new = side_called(dual, to)
    standing = pointer.newest(dual.pair.sides, None)
    if standing.moving_to:
        raise StoreConflict(f"the primary is being moved to {standing.moving_to}; --undo ends that")
    if standing.primary == new.name:
        return standing
    old = next(side for side in dual.pair.sides if side is not new)
    _check_clocks(old.records, new.records)
    tell(f"comparing {old.name} with {new.name}")
    doubtful = _compared(old.records, new.records)
    moving = pointer.next_move(standing, standing.primary, new.name)
    pointer.move(old.records, standing, moving)
    tell(f"nobody writes any more in {POINTER_S + CALL_S:.0f} s")
    try:
        pointer.bring_up(new.records, moving)
        time.sleep(POINTER_S + CALL_S)
        _finish_copy(old.records, new.records, doubtful)
    except BaseException:
        pointer.move(old.records, moving, pointer.next_move(moving, old.name))
        raise
    return _moved(moving, old.records, new)


def undo(dual: DualRecordStore, tell: Tell = lambda text: None) -> Standing:
    """Brings back the primary before this one, or ends a cut-over that somebody began. Raises RecordNotFound."""
    standing = pointer.newest(dual.pair.sides, None)
    if standing.moving_to:
        records = side_called(dual, standing.primary).records
        back = pointer.next_move(standing, standing.primary)
        pointer.move(records, standing, back)
        return back
    moves = {one.moves: one for side in dual.pair.sides for one in pointer.history(side.records)}
    before = [one.primary for _, one in sorted(moves.items()) if one.primary != standing.primary]
    if not before:
        raise RecordNotFound(f"{standing.primary} has always been the primary: there is nothing to undo")
    return cut_over(dual, before[-1], tell)


def give_up_primary(dual: DualRecordStore, to: str) -> Standing:
    """Makes `to` the primary because the other is gone: what only that held, and listed as missed, is gone with it.

    Raises InvalidRequest if the other answers.
    """
    new = side_called(dual, to)
    old = next(side for side in dual.pair.sides if side is not new)
    if answers(old):
        raise InvalidRequest("--lost", old.name, "a primary that does not answer; this one does")
    standing = pointer.read(new.records)
    if standing is None:
        raise RecordNotFound(f"{new.name} has no pointer to a primary: it was never one of two stores")
    if standing.primary == new.name and not standing.moving_to:
        return standing
    return _moved(standing, new.records, new)


def side_called(dual: DualRecordStore, name: str) -> Side:
    """Raises InvalidRequest."""
    for side in dual.pair.sides:
        if side.name == name:
            return side
    raise InvalidRequest("--to", name, " or ".join(side.name for side in dual.pair.sides))


def answers(side: Side) -> bool:
    try:
        side.records.now()
    except StoreUnavailable:
        return False
    return True


def _moved(before: Standing, decides: RecordStore, new: Side) -> Standing:
    after = pointer.next_move(before, new.name)
    pointer.move(decides, before, after)
    pointer.bring_up(new.records, after)
    for records in {id(decides): decides, id(new.records): new.records}.values():
        records.flush()
    return after


def _check_clocks(old: RecordStore, new: RecordStore) -> None:
    skew = new.now() - old.now()
    if abs(skew) > MOST_SKEW_S:
        way = "ahead of" if skew > 0 else "behind"
        raise StoreConflict(f"the clock of the new primary is {abs(skew):,.1f} s {way} the old one's: set them right")


def _compared(old: RecordStore, new: RecordStore) -> list[Name]:
    """Makes both the same while they are in use; gives what still differs, as what changes all the time may.

    Raises StoreConflict if that is more than can be looked at again.
    """
    replay(old, new)
    repair(old, new)
    found = compare(old, new)
    if len(found.different) >= MOST_NAMED or found.damaged:
        raise StoreConflict(
            f"the two are not the same: {len(found.different):,} records differ, {len(found.damaged):,} cannot be read"
        )
    return [(kind, key) for kind, _, key in (text.partition(" ") for text in found.different)]


def _finish_copy(old: RecordStore, new: RecordStore, doubtful: Iterable[Name]) -> None:
    """The last of it, while nobody writes. Raises StoreConflict."""
    replay(old, new)
    for name in doubtful:
        settle(name, old, new)
    left = [name for name in doubtful if not _is_same(old, new, name)]
    missed = sum(1 for _ in Missed(old).marks())
    if left or missed:
        raise StoreConflict(f"the two are not the same: {len(left):,} records differ, {missed:,} were missed")


def _is_same(old: RecordStore, new: RecordStore, name: Name) -> bool:
    here, there = (records.read(*name, aged=True) for records in (old, new))
    return here is None or Pair(old, new).is_same(name, here, there)
