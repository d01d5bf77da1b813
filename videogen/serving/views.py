"""A request's record as the service shows it."""

import datetime
import uuid
from collections.abc import Mapping

from videogen.requests import UNGATED
from videogen.serving.jobs import STATUS, JobError, Usage, VideoJob
from videogen.store.pace import Eta
from videogen.store.records import Json, RequestRecord, VideoRecord

REMIXED_FROM = "remixed_from"
ERROR_CODES = {"failed": "generation_failed", "cancelled": "cancelled", "expired": "deadline_exceeded"}


def view(
    record: RequestRecord,
    video: VideoRecord | None,
    *,
    eta: Eta | None = None,
    price_per_hour: float | None = None,
) -> VideoJob:
    """The job that `record` stands for. `price_per_hour` is in US dollars of a device.

    Raises RecordDamaged for one whose request cannot be read any more.
    """
    accepted = record.asked
    born = accepted_at(record.id)
    return VideoJob(
        id=record.id,
        status=STATUS[record.state],
        state=record.state,
        request=accepted.request,
        model=accepted.request.model,
        label=record.label,
        version_digest=record.version_digest,
        progress=record.progress,
        created_at=born,
        completed_at=None if record.ended_at is None else born + record.ended_at - record.submitted_at,
        expires_at=None if video is None else born + video.expires_at - record.submitted_at,
        queue_position=None if eta is None else eta.position,
        eta_seconds=None if eta is None else eta.seconds,
        usage=None if video is None else _usage(record, video, price_per_hour),
        error=_error(record),
        remixed_from=_text(accepted.request.metadata.get(REMIXED_FROM)),
        video=video,
        ungated=accepted.fingerprint.startswith(UNGATED),
        changes=accepted.changes,
    )


def accepted_at(request_id: str) -> float:
    """Unix seconds at which a request was accepted, which its id tells: the store's clock need not be a calendar's."""
    try:
        return (uuid.UUID(request_id).int >> 80) / 1000
    except ValueError:
        return datetime.datetime.now(datetime.UTC).timestamp()


def device_seconds(facts: Mapping[str, Json]) -> float:
    """What a video took of its device, as its provenance tells; 0 where it does not."""
    spent = facts.get("device_seconds")
    return float(spent) if isinstance(spent, int | float) else 0.0


def _usage(record: RequestRecord, video: VideoRecord, price_per_hour: float | None) -> Usage:
    facts = video.provenance
    if facts.get("request_id") == record.id:
        seconds = device_seconds(facts)
        return Usage(seconds, None if price_per_hour is None else seconds * price_per_hour / 3600, "miss")
    free = None if price_per_hour is None else 0.0
    return Usage(0.0, free, "hit" if video.created_at <= record.submitted_at else "joined")


def _error(record: RequestRecord) -> JobError | None:
    if record.state not in ERROR_CODES:
        return None
    message = record.error or f"the request was {record.state}"
    return JobError(ERROR_CODES[record.state], message)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
