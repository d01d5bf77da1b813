"""Who of two stores is the primary, for a process that asks all the time and must not be wrong for long."""

import contextlib
import shlex
import time
from dataclasses import dataclass

from videogen.errors import InvalidStoreUrl, StoreConflict, StoreInDoubt, StoreUnavailable
from videogen.store.backends.dual import pointer
from videogen.store.backends.dual.mending import Mender
from videogen.store.backends.dual.missed import Missed
from videogen.store.backends.dual.pointer import Standing
from videogen.store.backends.dual.sides import Side
from videogen.store.primitives import RecordStore

POINTER_S = 1.0
"""For so long a process goes by the pointer that it read."""
CALL_S = 10.0
"""A write that took longer asks once more who is the primary, before it is accepted."""
MOVING_S = 60.0
"""A cut-over that moved nothing for so long was broken off: the primary stays."""
LOOK_AGAIN_S = 0.1
WAIT_S = 30.0
"""For so long a write waits for a cut-over to end."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Who is who, by the pointer as it stood at `seen_at`."""

    primary: Side
    secondary: Side
    standing: Standing
    seen_at: float


class Pairing:
    """Two sides, of which `one` is the primary where no pointer says otherwise."""

    def __init__(self, one: Side, other: Side) -> None:
        if one.name == other.name:
            raise InvalidStoreUrl(f"dual:{one.name}|{other.name}", "two different stores")
        self.sides, self._lists = (one, other), dict[str, Missed]()
        self.mender = Mender(self._both, self.sides)
        began = time.monotonic()
        self._seen = pointer.newest(self.sides, None), began
        primary = self.roles().primary
        if any(side.away for side in self.sides):
            self.mender.wake(compare=True)
        elif self.missed_by(primary).any():
            self.mender.wake()

    def roles(self, for_writing: bool = False) -> Roles:
        """Who is the primary, by a pointer that was read a moment ago. While it is being moved, writes wait.

        Raises StoreUnavailable if the pointer cannot be read, or is being moved for too long.
        """
        deadline = time.monotonic() + WAIT_S
        while True:
            standing, seen_at = self._seen
            if time.monotonic() - seen_at > POINTER_S or (for_writing and standing.moving_to):
                standing, seen_at = self._look()
            if not (for_writing and standing.moving_to):
                return self._as_roles(standing, seen_at)
            if time.monotonic() >= deadline:
                raise StoreUnavailable(f"the primary is being moved to {standing.moving_to}: writes have to wait")
            time.sleep(LOOK_AGAIN_S)

    def _look(self) -> tuple[Standing, float]:
        began = time.monotonic()
        standing = pointer.newest(self.sides, self._seen[0])
        primary = self._as_roles(standing, began).primary
        if standing.moving_to and not primary.away and pointer.since_move(primary.records) > MOVING_S:
            with contextlib.suppress(StoreConflict):  # somebody else noticed it too
                pointer.move(primary.records, standing, pointer.next_move(standing, standing.primary))
            standing = pointer.newest(self.sides, standing)
        self._seen = standing, began
        if any(side.away for side in self.sides):
            self.mender.wake(compare=True)
        return self._seen

    def _as_roles(self, standing: Standing, seen_at: float) -> Roles:
        if standing.primary not in (side.name for side in self.sides):
            names = " and ".join(side.name for side in self.sides)
            raise StoreUnavailable(f"the primary is {standing.primary}, which is neither of {names}")
        one, other = self.sides
        primary, secondary = (one, other) if one.name == standing.primary else (other, one)
        return Roles(primary, secondary, standing, seen_at)

    def primary(self, roles: Roles) -> RecordStore:
        """The primary's records. Raises StoreUnavailable at once while it is away."""
        if roles.primary.away:
            raise StoreUnavailable(
                f"{roles.primary.name}, the primary, did not answer lately, and nothing is taken in without it; should "
                f"it be gone for good: videogen store cut-over --to {shlex.quote(roles.secondary.name)} --lost"
            )
        return roles.primary.records

    def missed_by(self, primary: Side) -> Missed:
        """What the other side lacks, by the list in `primary`. Raises StoreUnavailable."""
        return self._lists.setdefault(primary.name, Missed(primary.records))

    def gone(self, side: Side) -> None:
        """It did not answer: it is not asked any more until it is seen again, and is then brought up to date."""
        side.away = True
        self.mender.wake(compare=True)

    def check(self, roles: Roles) -> None:
        """Raises StoreInDoubt if a write took so long that the roles may have changed, and they have."""
        if time.monotonic() - roles.seen_at > POINTER_S + CALL_S and self._look()[0] != roles.standing:
            raise StoreInDoubt(f"{roles.primary.name} stopped being the primary while it was written to")

    def close(self) -> None:
        self.mender.close()
        for side in self.sides:
            side.close()

    def _both(self) -> tuple[Side, Side]:
        roles = self.roles()
        return roles.primary, roles.secondary
