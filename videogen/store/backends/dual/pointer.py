"""Which of two stores is the primary: a record in both, of which the one that was moved more often holds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from videogen.errors import InvalidStoreUrl, StoreConflict, StoreUnavailable
from videogen.store.backends.dual.sides import Side
from videogen.store.moving.copying import OWN_KINDS
from videogen.store.primitives import Is, MapPut, Record, RecordStore, Set, Write

KIND, KEY = f"{OWN_KINDS}primary", "pointer"


@dataclass(frozen=True, slots=True)
class Standing:
    """`moves` counts the pointer's moves. While `moving_to` is set, nobody writes."""

    primary: str
    moves: int
    moving_to: str | None = None


def newest(sides: Sequence[Side], known: Standing | None) -> Standing:
    """The pointer as it stands; makes it, at the first of `sides`, where none has it yet.

    A side that does not answer is `away` from then on. Raises StoreUnavailable if the pointer cannot be known.
    """
    found: dict[str, Standing | None] = {}
    errors: list[StoreUnavailable] = []
    for side in (side for side in sides if not side.away):
        try:
            found[side.name] = read(side.records)
        except InvalidStoreUrl:
            raise
        except StoreUnavailable as error:
            side.away = True
            errors.append(error)
    if not found:
        raise errors[0] if errors else StoreUnavailable("neither of the two stores answers")
    standings = [standing for standing in (known, *found.values()) if standing is not None]
    if not standings and len(found) == len(sides):
        first = min(sides, key=lambda side: side.name)  # the same for all processes, whatever order their URLs have
        standings = [_make(first.records, Standing(sides[0].name, 1))]
    if not standings:
        raise StoreUnavailable(
            f"one of two stores does not answer, and the other has no pointer to the primary: {errors[0]}"
        )
    latest = max(standings, key=lambda standing: standing.moves)
    for side in sides:
        if side.name in found and (found[side.name] is None or found[side.name] != latest):
            bring_up(side.records, latest)
    return latest


def read(records: RecordStore) -> Standing | None:
    return _standing(records.read(KIND, KEY))


def move(records: RecordStore, before: Standing, after: Standing) -> None:
    """Raises StoreConflict if the pointer in `records` does not stand as `before`."""
    if records.write(Write(KIND, KEY, _operations(after, records.now()), "never", Is("moves", before.moves))) is None:
        raise StoreConflict(f"the pointer to the primary is not at move {before.moves} any more: it is {read(records)}")


def bring_up(records: RecordStore, latest: Standing) -> None:
    """Puts a pointer that another store holds, unless this one's was moved more often."""
    there = read(records)
    if there is None:
        records.write(Write(KIND, KEY, _operations(latest, records.now()), "only"))
    elif there.moves < latest.moves:
        records.write(Write(KIND, KEY, _operations(latest, records.now()), "never", Is("moves", there.moves)))


def history(records: RecordStore) -> list[Standing]:
    """Every move that these records have seen, oldest first."""
    entries = [json.loads(text) for page in records.map_pages(KIND, KEY) for _, text in page]
    return [Standing(entry["primary"], entry["moves"], entry["moving_to"]) for entry in entries]


def since_move(records: RecordStore) -> float:
    """Seconds since the pointer was last written."""
    record = records.read(KIND, KEY, aged=True)
    return 0.0 if record is None else record.age


def next_move(standing: Standing, primary: str, moving_to: str | None = None) -> Standing:
    return replace(standing, primary=primary, moves=standing.moves + 1, moving_to=moving_to)


def _make(records: RecordStore, standing: Standing) -> Standing:
    records.write(Write(KIND, KEY, _operations(standing, records.now()), "only"))
    records.flush()
    return read(records) or standing


def _operations(standing: Standing, at: float) -> tuple[Set | MapPut, ...]:
    entry = {"primary": standing.primary, "moves": standing.moves, "moving_to": standing.moving_to, "at": at}
    bins = (Set(name, entry[name]) for name in ("primary", "moves", "moving_to"))
    return (*bins, MapPut(f"{standing.moves:012d}", json.dumps(entry, sort_keys=True)))


def _standing(record: Record | None) -> Standing | None:
    if record is None:
        return None
    return Standing(record.text("primary"), record.count("moves"), record.optional_text("moving_to"))
