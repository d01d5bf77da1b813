"""Between the client's values and the messages of videogen.v1."""

import hashlib
import math
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from videogen.client.errors import InvalidRequest, ProtocolError, VideoFailed
from videogen.client.results import Job, JobError, Json, Model, Page, Session, Status, Usage, Video
from videogen.protos.videogen.v1 import model_service_pb2, session_service_pb2, video_pb2, video_service_pb2

STATUSES: dict[int, Status] = {
    video_pb2.JOB_STATUS_QUEUED: "queued",
    video_pb2.JOB_STATUS_IN_PROGRESS: "in_progress",
    video_pb2.JOB_STATUS_COMPLETED: "completed",
    video_pb2.JOB_STATUS_FAILED: "failed",
}
CACHE: dict[int, typing.Literal["hit", "joined", "miss"]] = {
    video_pb2.CACHE_USE_HIT: "hit",
    video_pb2.CACHE_USE_JOINED: "joined",
    video_pb2.CACHE_USE_MISS: "miss",
}
M = TypeVar("M", bound=Message)
PRIORITIES = {"interactive": 1, "standard": 2, "batch": 3}
KINDS = {
    FieldDescriptor.CPPTYPE_STRING: "text in Unicode",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_ENUM: "one of " + ", ".join(PRIORITIES),
    FieldDescriptor.CPPTYPE_INT32: "a whole number of 32 bits",
    FieldDescriptor.CPPTYPE_INT64: "a whole number of 64 bits",
}
"""What a field holds, for people; of enums there is one."""
ORDERS = {"asc": video_service_pb2.LIST_ORDER_ASCENDING, "desc": video_service_pb2.LIST_ORDER_DESCENDING}


def spec(fields: Mapping[str, Any]) -> video_pb2.VideoSpec:
    """A VideoSpec. Fields that are None are left open. Raises InvalidRequest for one that does not exist or fit."""
    return _filled(video_pb2.VideoSpec(), fields)


def change(job_id: str, fields: Mapping[str, Any]) -> video_service_pb2.ChangeRequest:
    """As `spec`, of what may be changed."""
    made = _filled(video_service_pb2.ChangeRequest(), fields)
    made.id = job_id
    return made


def _filled(message: M, fields: Mapping[str, Any]) -> M:
    made: Any = message
    names = [name for name in _descriptor(message).fields_by_name if name != "id"]
    for name, value in fields.items():
        if name not in names:
            raise invalid(name, value, "one of " + ", ".join(names))
        if value is None:
            continue
        try:
            if name == "priority":
                made.priority = one_of(name, value, PRIORITIES)
            elif name == "metadata":
                for key, note in value.items():
                    put_json(name, note, made.metadata[key])
            elif isinstance(value, (list, tuple)):
                getattr(made, name).extend(value)
            else:
                setattr(made, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise invalid(name, value, _allowed(_descriptor(message).fields_by_name[name])) from error
    return message


def _allowed(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        return "a mapping of texts to JSON values"
    return f"{'a list, each ' if field.is_repeated else ''}{KINDS[field.cpp_type]}"


def one_of(name: str, value: str, allowed: Mapping[str, Any]) -> Any:
    """What `value` stands for. Raises InvalidRequest."""
    if value not in allowed:
        raise invalid(name, value, "one of " + ", ".join(allowed))
    return allowed[value]


def put_json(name: str, value: Json, target: Message) -> None:
    """Sets a Value or a Struct. Raises InvalidRequest for what is no JSON, or no object."""
    target.SetInParent()
    try:
        json_format.ParseDict(value, target)
    except (json_format.ParseError, TypeError, AttributeError) as error:
        raise invalid(name, value, "JSON values") from error


def job(message: video_pb2.Job) -> Job:
    """Raises ProtocolError for one without a status."""
    if message.status not in STATUSES:
        raise ProtocolError(f"job {message.id} has no status that is known: {message.status}")
    has = message.HasField
    return Job(
        id=message.id,
        status=STATUSES[message.status],
        state=message.state,
        spec=_spec_fields(message.spec),
        model_version=message.model_version,
        version_digest=message.version_digest,
        progress=message.progress,
        created_at=_seconds(message.created_at),
        completed_at=_seconds(message.completed_at) if has("completed_at") else None,
        expires_at=_seconds(message.expires_at) if has("expires_at") else None,
        queue_position=message.queue_position if has("queue_position") else None,
        eta_seconds=message.eta_seconds if has("eta_seconds") else None,
        usage=_usage(message.usage) if has("usage") else None,
        error=_error(message.error) if has("error") else None,
        remixed_from=message.remixed_from or None,
        video_digest=message.video.digest if has("video") else None,
        video_size=message.video.size if has("video") else None,
        provenance=plain(message.video.provenance) if has("video") else {},
        ungated=message.ungated,
        changes=tuple(map(_change, message.changes)),
    )


def video(message: video_pb2.Job, chunks: Iterable[bytes]) -> Video:
    """Raises VideoFailed if the job has no video, ProtocolError if the bytes are not that video."""
    made = job(message)
    if made.status != "completed":
        said = made.error or JobError("generation_failed", f"it ended {made.state}", None)
        raise VideoFailed(made.id, made.state if made.state in ("cancelled", "expired") else said.code, said.message)
    data = b"".join(chunks)
    if hashlib.sha256(data).hexdigest() != made.video_digest:
        raise ProtocolError(f"{made.id}: {len(data):,} bytes arrived that are not its video")
    return Video(made, data)


def page(message: video_service_pb2.ListResponse) -> Page:
    return Page(tuple(map(job, message.jobs)), message.next_page_token or None, message.cut)


def model(message: model_service_pb2.Model) -> Model:
    return Model(
        name=message.name,
        version=message.version,
        version_digest=message.version_digest,
        ungated=message.ungated,
        created_at=message.created_at,
        defaults=_all_fields(message.defaults),
        limits=_all_fields(message.limits),
    )


def session(message: session_service_pb2.Session) -> Session:
    return Session(
        id=message.id,
        revision=message.revision,
        defaults=plain(message.defaults),
        edit_state=plain(message.edit_state) if message.HasField("edit_state") else None,
        videos=tuple(message.videos),
    )


def invalid(field: str, given: object, allowed: str) -> InvalidRequest:
    shown = repr(given)[:120]
    made = InvalidRequest(f"{field}: got {shown}; allowed: {allowed}", "INVALID_ARGUMENT")
    made.field, made.given, made.allowed = field, shown, allowed
    return made


def _spec_fields(message: video_pb2.VideoSpec) -> dict[str, Any]:
    fields = _all_fields(message)
    priorities = {number: name for name, number in PRIORITIES.items()}
    metadata = {key: plain(value) for key, value in message.metadata.items()}
    return {**fields, "priority": priorities.get(message.priority, "standard"), "metadata": metadata}


def _all_fields(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, field in _descriptor(message).fields_by_name.items():
        value = getattr(message, name)
        absent = field.has_presence and not message.HasField(name)
        found[name] = None if absent else tuple(value) if field.is_repeated else value
    return found


def plain(message: Message) -> Any:
    """JSON values; whole numbers as int, for a Struct knows only one kind of number."""
    return _whole(json_format.MessageToDict(message))


def _whole(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and math.isfinite(value) and value == int(value) else value


def _descriptor(message: Message) -> Any:
    return message.DESCRIPTOR


def _usage(message: video_pb2.Usage) -> Usage:
    cost = message.cost_usd if message.HasField("cost_usd") else None
    return Usage(message.gpu_seconds, cost, CACHE.get(message.cache))


def _change(message: video_pb2.ParameterChange) -> dict[str, Any]:
    return {"step": message.step, **{field.name: value for field, value in message.ListFields()}}


def _error(message: video_pb2.JobError) -> JobError:
    return JobError(message.code, message.message, message.param or None)


def _seconds(stamp: Any) -> float:
    return stamp.seconds + stamp.nanos / 1e9
