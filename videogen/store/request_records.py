"""How a request stands in its record: what is written when it comes and when it ends, and what is read of it."""

from dataclasses import dataclass, replace
from typing import Literal

from videogen.errors import RecordDamaged
from videogen.requests import AcceptedRequest
from videogen.store.generations import noted
from videogen.store.primitives import Condition, Is, Record, Set, either, every
from videogen.store.records import END_STATES, RequestRecord, RequestState

LIVE = either(Is("state", "queued"), Is("state", "assigned"))
STORED = ("state", "generation", "version_digest", "label", "lane", "priority", "source", "submitted_at", "batch")
STORED += ("assignments", "deadline_at", "ended_at", "video", "error", "turn", "attempts", "requeued_as")
JOINED = Set("joined", True)
"""In the write that makes a request which found its generation running, and in no other."""


@dataclass(frozen=True, slots=True)
class End:
    """How a request ends. `video` only when it is done, `error` only when it is not.

    `cache`: whether its video was made for it or for another, where that is known.
    """

    state: RequestState
    video: str | None = None
    error: str | None = None
    attempts: int = 0
    cache: Literal["miss", "joined"] | None = None


def new_record(accepted: AcceptedRequest, key: str, source: str, now: float) -> RequestRecord:
    """One that waits for the generation `key`, submitted `now` by the store's clock."""
    request = accepted.request
    return RequestRecord(
        id=accepted.id,
        state="queued",
        accepted=accepted,
        generation=key,
        version_digest=accepted.version_digest,
        label=accepted.label,
        lane=request.lane,
        priority=request.priority,
        source=source,
        submitted_at=now,
        deadline_at=None if request.deadline is None else now + request.deadline,
    )


def damaged_record(request_id: str, reason: str, now: float) -> RequestRecord:
    """One of which nothing else can be read."""
    return RequestRecord(
        request_id, "failed", None, "", "", "", "batch", "standard", "", submitted_at=now, ended_at=now, error=reason
    )


def as_operations(record: RequestRecord) -> tuple[Set, ...]:
    """All that is stored of it."""
    body = Set("accepted", record.accepted.to_json() if record.accepted else None)
    return (*(Set(name, getattr(record, name)) for name in STORED), body, *((JOINED,) if record.joined else ()))


def end_operations(end: End, now: float) -> tuple[Set, ...]:
    """What its end changes."""
    bins = {"state": end.state, "ended_at": now, "video": end.video, "error": end.error and noted(end.error)}
    return tuple(Set(name, value) for name, value in {**bins, "attempts": end.attempts, "cache": end.cache}.items())


def as_judged(record: RequestRecord, end: End) -> Condition:
    """It is live, and still waits for the generation, or until the deadline, that ends it."""
    deadline = (Is("deadline_at", record.deadline_at),) if end.state == "expired" else ()
    return every(LIVE, Is("generation", record.generation), *deadline)


def as_ended(record: RequestRecord, end: End, now: float) -> RequestRecord:
    """As `end_operations` leave it."""
    error = end.error and noted(end.error)
    told = {"state": end.state, "video": end.video, "error": error, "attempts": end.attempts}
    return replace(record, ended_at=now, progress=0.0, **told)


def from_record(request_id: str, record: Record) -> RequestRecord:
    """Raises RecordDamaged or InvalidRequest if it is not what `as_operations` wrote."""
    for name in ("state", "generation", "version_digest", "label", "lane", "priority", "source"):
        record.text(name)
    record.number("submitted_at")
    bins = {name: record.bins.get(name) for name in STORED}
    bins |= {"turn": record.optional_text("turn") or "", "attempts": record.count("attempts")}
    bins["joined"] = record.bins.get("joined") is True
    if bins["state"] not in ("queued", "assigned", *END_STATES):
        raise RecordDamaged(f"state holds {bins['state']!r}")
    body = record.optional_text("accepted")
    if body is None and bins["state"] not in END_STATES:
        raise RecordDamaged("the accepted request is missing")
    accepted = None if body is None else AcceptedRequest.from_json(body)
    if accepted is not None and accepted.id != request_id:
        raise RecordDamaged(f"it holds the request {accepted.id}")
    return RequestRecord(id=request_id, accepted=accepted, **bins)  # ty: ignore[invalid-argument-type]
