"""What the journals say was promised against what a store holds at the end."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults.journal import Note
from videogen.errors import RecordDamaged, RecordNotFound
from videogen.store.records import RequestRecord
from videogen.store.store import Store

NOTED_S = 0.5
"""From what a process is told to its note of that; no server is back so soon."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Requests by what became of them, and what must never be.

    `lost`: accepted, and neither answered nor visibly failed. `undone`: published or ended before a server was killed,
    and again after it. `window_s`: the longest time from a promise that did not hold to the kill that undid it.
    `missing`: readings of what was accepted or published that found nothing, or not all of it.
    """

    accepted: int
    answered: int
    failed: int
    lost: int
    undone: int
    window_s: float
    duplicates: int
    torn: int
    fenced: int
    missing: int
    resurrected: int


def audit(store: Store, notes: Sequence[Note], kills: Sequence[float], window_s: float | None) -> Audit:
    """`kills`: when servers were killed; what was promised up to `window_s` before one of them may be undone."""
    accepted = {note.facts["id"]: note for note in notes if note.what == "accepted"}
    final = {one: _final(store, one) for one in accepted}
    outcomes = {one: _outcome(store, record) for one, record in final.items()}
    count = Counter(outcomes.values())
    published = {note.facts["generation"]: note.at for note in notes if note.what == "published"}
    lost = [one for one, outcome in outcomes.items() if outcome == "lost"]
    lost_at = [_lost_at(accepted[one], final[one], published) for one in lost]
    twice, changed = list(_published_twice(notes, final.values())), list(_changed(notes, final))
    excused = [] if window_s is None else [at for at in (*twice, *changed) if _before_a_kill(at, kills) <= window_s]
    return Audit(
        accepted=len(accepted),
        answered=count["answered"],
        failed=count["failed"],
        lost=count["lost"],
        undone=len(excused),
        window_s=max((_before_a_kill(at, kills) for at in (*lost_at, *excused)), default=0.0),
        duplicates=sum(at not in excused for at in twice),
        torn=sum(note.what == "torn" for note in notes),
        fenced=sum(note.what == "refused" for note in notes),
        missing=sum(note.what in ("missing", "damaged") for note in notes),
        resurrected=sum(at not in excused for at in changed),
    )


def _lost_at(accepted: Note, record: RequestRecord | None, published: dict[str, float]) -> float:
    """When the promise was made that does not hold; never, for a request that is there and that nobody answers."""
    if record is None:
        return accepted.at
    return published.get(record.generation, math.inf) if record.state == "done" else math.inf


def _before_a_kill(at: float, kills: Sequence[float]) -> float:
    """Seconds from then to the next kill of a server; 0 for what was heard before a kill and noted right after it."""
    return min((max(kill - at, 0.0) for kill in kills if kill >= at - NOTED_S), default=math.inf)


def _final(store: Store, one: str) -> RequestRecord | None:
    try:
        return store.request(one)
    except RecordNotFound:
        return None


def _outcome(store: Store, record: RequestRecord | None) -> str:
    if record is None or record.is_live:
        return "lost"
    if record.state != "done":
        return "failed" if record.error or record.state == "cancelled" else "lost"
    try:
        mp4 = store.read_video(record.video or "")
    except (RecordNotFound, RecordDamaged):
        return "lost"
    right = hashlib.sha256(mp4).hexdigest() == record.video and mp4.split()[0].decode() == record.generation
    return "answered" if right else "lost"


def _published_twice(notes: Iterable[Note], final: Iterable[RequestRecord | None]) -> Iterator[float]:
    """For each generation with several videos: when the one before each further was published."""
    seen: dict[str, dict[str, float]] = defaultdict(dict)
    for note in notes:
        if note.what in ("published", "read"):
            seen[note.facts["generation"]].setdefault(note.facts["digest"], note.at)
    for record in final:
        if record is not None and record.video:
            seen[record.generation].setdefault(record.video, math.inf)
    for videos in seen.values():
        yield from sorted(videos.values())[:-1]


def _changed(notes: Iterable[Note], final: dict[str, RequestRecord | None]) -> Iterator[float]:
    """For each request that was seen to have ended and is live again or ended otherwise: when it was seen first."""
    ended: dict[str, Note] = {}
    for note in notes:
        if note.what != "ended":
            continue
        before = ended.setdefault(note.facts["id"], note)
        if before.facts != note.facts:
            yield before.at
            ended[note.facts["id"]] = note
    for one, note in ended.items():
        record = final.get(one)
        if record is not None and (record.state, record.video or "") != (note.facts["state"], note.facts["video"]):
            yield note.at
