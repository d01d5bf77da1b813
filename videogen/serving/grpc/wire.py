"""Between the core's values and the messages of videogen.v1."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from videogen.client.wire import plain
from videogen.errors import InvalidRequest
from videogen.protos.videogen.v1 import model_service_pb2, session_service_pb2, video_pb2, video_service_pb2
from videogen.requests import Request
from videogen.serving.jobs import ModelInfo, VideoJob
from videogen.store.sessions import Session

STATUSES = {
    "queued": video_pb2.JOB_STATUS_QUEUED,
    "in_progress": video_pb2.JOB_STATUS_IN_PROGRESS,
    "completed": video_pb2.JOB_STATUS_COMPLETED,
    "failed": video_pb2.JOB_STATUS_FAILED,
}
PRIORITIES = {1: "interactive", 2: "standard", 3: "batch"}
NUMBERS = {name: number for number, name in PRIORITIES.items()}
CACHE = {"hit": video_pb2.CACHE_USE_HIT, "joined": video_pb2.CACHE_USE_JOINED, "miss": video_pb2.CACHE_USE_MISS}


def fields_of(spec: video_pb2.VideoSpec) -> dict[str, Any]:
    """What a spec says, as `Service.submit` takes it: what it leaves open is absent. Raises InvalidRequest."""
    fields: dict[str, Any] = {}
    for field, value in spec.ListFields():
        fields[field.name] = list(value) if field.is_repeated and field.name != "metadata" else value
    if "metadata" in fields:
        fields["metadata"] = {key: plain(value) for key, value in spec.metadata.items()}
    return {"prompt": "", **_with_priority(fields), "lane": "interactive"}


def changed_fields(request: video_service_pb2.ChangeRequest) -> dict[str, Any]:
    """What is to be otherwise, as `Service.change` takes it. Raises InvalidRequest."""
    return _with_priority({field.name: value for field, value in request.ListFields() if field.name != "id"})


def _with_priority(fields: dict[str, Any]) -> dict[str, Any]:
    if "priority" in fields:
        if fields["priority"] not in PRIORITIES:
            raise InvalidRequest("priority", fields["priority"], "INTERACTIVE, STANDARD or BATCH")
        fields["priority"] = PRIORITIES[fields["priority"]]
    return fields


def job(value: VideoJob) -> video_pb2.Job:
    made = video_pb2.Job(
        id=value.id,
        status=STATUSES[value.status],
        state=value.state,
        spec=_spec(value.request),
        model_version=value.label,
        version_digest=value.version_digest,
        progress=value.progress,
        queue_position=value.queue_position,
        eta_seconds=value.eta_seconds,
        remixed_from=value.remixed_from or "",
        ungated=value.ungated,
        changes=[video_pb2.ParameterChange(**one.model_dump(exclude_none=True)) for one in value.changes],
    )
    for name in ("created_at", "completed_at", "expires_at"):
        if (seconds := getattr(value, name)) is not None:
            getattr(made, name).FromNanoseconds(int(seconds * 1e9))
    if value.usage is not None:
        usage = value.usage
        cache = CACHE[usage.cache]
        made.usage.CopyFrom(video_pb2.Usage(gpu_seconds=usage.gpu_seconds, cost_usd=usage.cost_usd, cache=cache))
    if value.error is not None:
        error = value.error
        made.error.CopyFrom(video_pb2.JobError(code=error.code, message=error.message, param=error.param or ""))
    if value.video is not None:
        made.video.digest, made.video.size = value.video.digest, value.video.size
        put_json(_provenance(value.id, value.video.provenance), made.video.provenance)
    return made


def _provenance(job_id: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """How a video was made; without what is only of the request that it was made for, where that is another."""
    if facts.get("request_id") == job_id:
        return dict(facts)
    told = {name: fact for name, fact in facts.items() if name != "request_id"}
    if isinstance(asked := told.get("request"), Mapping):
        told["request"] = {name: value for name, value in asked.items() if name != "deadline"}
    return told


def model(value: ModelInfo) -> model_service_pb2.Model:
    spec = dataclasses.asdict(value.spec)
    return model_service_pb2.Model(
        name=value.name,
        version=value.label,
        version_digest=value.version_digest,
        ungated=value.ungated,
        created_at=value.created_at,
        defaults=model_service_pb2.ModelDefaults(**_among(spec, model_service_pb2.ModelDefaults)),
        limits=model_service_pb2.ModelLimits(**_among(spec, model_service_pb2.ModelLimits)),
    )


def session(value: Session) -> session_service_pb2.Session:
    made = session_service_pb2.Session(id=value.id, revision=value.revision, videos=value.videos)
    put_json(dict(value.defaults), made.defaults)
    put_json(value.edit_state, made.edit_state)
    return made


def put_json(value: Any, target: Message) -> None:
    """Sets a Struct or a Value."""
    target.SetInParent()
    json_format.ParseDict(value, target)


def _spec(request: Request) -> video_pb2.VideoSpec:
    fields = _among(request.model_dump(exclude={"metadata"}), video_pb2.VideoSpec)
    fields["priority"] = NUMBERS[request.priority]
    made = video_pb2.VideoSpec(**fields)
    for key, note in request.metadata.items():
        put_json(note, made.metadata[key])
    return made


def _among(values: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name in kind.DESCRIPTOR.fields_by_name}
