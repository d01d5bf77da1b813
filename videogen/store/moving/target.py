"""A migration, which leaves alone what others wrote to its target.

The target remembers each migration that wrote to it, so that one which goes on is told from one into a store in use.
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from videogen.errors import InvalidRequest
from videogen.store.moving.copying import OWN_KINDS, PAGE, Name
from videogen.store.moving.migration import BATCH, TTL_SLACK_S, Pair, Progress, Tally, copy
from videogen.store.primitives import NEVER, MapPut, Record, RecordStore, Write

KIND, KEY = f"{OWN_KINDS}copied", "from"
MOST_SKEW_S = 5.0
"""By which the clocks of a cluster's nodes may differ."""


def source_name(records: RecordStore, url: str) -> str:
    """Names a store to another one: two may share a server, and a password is not told to whoever reads the other."""
    return f"{records.facts().where} {hashlib.sha256(url.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a target remembers of a migration: by its own clock, when it last began or ended.

    `joined`: the target held records of its own, which stay.
    """

    at: float
    has_ended: bool
    joined: bool


def migrate(
    source: RecordStore,
    target: RecordStore,
    name: str,
    on_progress: Progress = lambda tally: None,
    into_used: bool = False,
) -> Tally:
    """Copies every record of `source`, which the target remembers as `name`, to `target`; see `copy`.

    Raises InvalidRequest, with nothing changed, if `target` holds records that neither the source nor an earlier run of
    the same migration put there. `into_used`: they stay, with all that they hold, in this run and in every later one.
    """
    mark = read_mark(target, name)
    joined = into_used or (mark is not None and mark.joined)
    if not joined:
        _refuse_used(source, target, mark)
    _remember(target, name, has_ended=False, joined=joined)
    found = copy(source, target, on_progress, joined)
    _remember(target, name, has_ended=True, joined=joined)
    return found


def has_joined(target: RecordStore, name: str) -> bool:
    """Did a migration of that name go into a target in use?"""
    mark = read_mark(target, name)
    return mark is not None and mark.joined


def read_mark(target: RecordStore, name: str) -> Mark | None:
    pages = target.map_pages(KIND, KEY, PAGE)
    return next((Mark(**json.loads(text)) for page in pages for one, text in page if one == name), None)


def _remember(target: RecordStore, name: str, has_ended: bool, joined: bool) -> None:
    told = json.dumps(asdict(Mark(target.now(), has_ended, joined)))
    target.write(Write(KIND, KEY, (MapPut(name, told),), ttl=NEVER))


def _refuse_used(source: RecordStore, target: RecordStore, mark: Mark | None) -> None:
    """Raises InvalidRequest if the target holds what neither the source nor an earlier run put there."""
    found, first = Counter[str](), ""
    for kind, key in _own(source, target, mark):
        found[kind] += 1
        first = first or f"{kind} {key}"
    if found:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(found.items()))
        raise InvalidRequest(
            "--to",
            target.facts().where,
            f"an empty store, or one that holds only what this migration copied there before; this one is in use: "
            f"records of its own are there ({kinds}; the first: {first}). Name an empty one (another folder, number, "
            f"?namespace= or ?prefix=), or keep what it holds and add the rest to it: --into-used",
        )


def _own(source: RecordStore, target: RecordStore, mark: Mark | None) -> Iterator[Name]:
    """Written since the mark, or ever, and unknown to the source or not as it is there."""
    pair = Pair(source, target)
    for kind in sorted({kind for kind, _ in target.names() if not kind.startswith(OWN_KINDS)}):
        names = target.keys(kind, mark.at if mark else 0.0)
        while keys := list(dict.fromkeys(itertools.islice(names, BATCH))):
            now, sides = target.now(), [store.read_many(kind, keys, aged=True) for store in (target, source)]
            for key, here, there in zip(keys, *sides, strict=True):
                if not isinstance(here, Record) or _ends(here):
                    continue
                is_known = isinstance(there, Record) and (
                    not _is_others(here, mark, now) or pair.is_same((kind, key), there, here)
                )
                if not is_known:
                    yield kind, key


def _ends(record: Record) -> bool:
    return record.expires_in is not None and record.expires_in <= TTL_SLACK_S


def _is_others(here: Record, mark: Mark | None, now: float) -> bool:
    """Is a record that both hold not as a run of the migration left it? One that was broken off may leave any."""
    return mark is None or (mark.has_ended and now - here.age > mark.at + MOST_SKEW_S)
