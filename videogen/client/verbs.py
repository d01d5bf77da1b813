"""What can be asked of the service: each call, its message, how its answer reads, whether it may be repeated."""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub

from videogen.client import wire
from videogen.client.errors import ProtocolError
from videogen.client.results import Claim, Executed, ExecuteFailed, Executing, Job, Json, Model, News, Page, Session
from videogen.protos.videogen.v1 import admin_service_pb2 as admin
from videogen.protos.videogen.v1 import model_service_pb2, session_service_pb2, video_service_pb2
from videogen.protos.videogen.v1.admin_service_pb2_grpc import AdminServiceStub
from videogen.protos.videogen.v1.model_service_pb2_grpc import ModelServiceStub
from videogen.protos.videogen.v1.session_service_pb2_grpc import SessionServiceStub
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub

T = TypeVar("T")
ATTEMPTS = 4
"""Of a call that may be repeated and finds nobody."""
FIRST_PAUSE_S = 0.2


@dataclass(frozen=True, slots=True)
class Verb(Generic[T]):
    """A call that is answered once, or for a stream, whose every answer is read with `read`."""

    method: str
    request: Message
    read: Callable[[Any], T]
    repeatable: bool = True


def pause_s(attempt: int) -> float:
    """Seconds to wait after `attempt`, from 0: twice as long after each, and not the same for all who wait."""
    return FIRST_PAUSE_S * 2**attempt * (0.5 + secrets.randbelow(1_000) / 1_000)


def methods(channel: grpc.Channel | grpc.aio.Channel) -> dict[str, Callable[..., Any]]:
    """The callables of a channel, sync or async, by name."""
    stubs = (VideoServiceStub, ModelServiceStub, SessionServiceStub, AdminServiceStub)
    found = {name: call for stub in stubs for name, call in vars(stub(channel)).items()}
    return {**found, "Check": HealthStub(channel).Check}


def key() -> str:
    """A new idempotency key."""
    return secrets.token_urlsafe(18)


def generate(
    prompt: str, fields: Mapping[str, Any], idempotency_key: str, session: str | None = None
) -> Verb[video_service_pb2.GenerateResponse]:
    spec = wire.spec({"prompt": prompt, **fields})
    request = video_service_pb2.GenerateRequest(spec=spec, idempotency_key=idempotency_key, session=session)
    return Verb("Generate", request, lambda answer: answer)


def submit(prompt: str, fields: Mapping[str, Any], idempotency_key: str, session: str | None = None) -> Verb[Job]:
    spec = wire.spec({"prompt": prompt, **fields})
    request = video_service_pb2.SubmitRequest(spec=spec, idempotency_key=idempotency_key, session=session)
    return _job("Submit", request)


def get(job_id: str) -> Verb[Job]:
    return _job("Get", video_service_pb2.GetRequest(id=job_id))


def list_jobs(limit: int, page_token: str | None, order: str) -> Verb[Page]:
    if limit == 0:  # which the interface has for "as many as the service finds right"
        raise wire.invalid("limit", limit, "a whole number from 1 on")
    way = wire.one_of("order", order, wire.ORDERS)
    return Verb("List", video_service_pb2.ListRequest(page_size=limit, page_token=page_token, order=way), wire.page)


def watch(job_id: str) -> Verb[Job]:
    return _job("Watch", video_service_pb2.WatchRequest(id=job_id))


def cancel(job_id: str) -> Verb[Job]:
    return _job("Cancel", video_service_pb2.CancelRequest(id=job_id))


def delete(job_id: str) -> Verb[None]:
    # A second delete would find nothing and say so: the caller should hear of the first.
    return Verb("Delete", video_service_pb2.DeleteRequest(id=job_id), lambda _: None, repeatable=False)


def change(job_id: str, fields: Mapping[str, Any]) -> Verb[Job]:
    # Repeated it would be another change, from a later step on.
    request = wire.change(job_id, fields)
    return Verb("Change", request, lambda answer: wire.job(answer.job), repeatable=False)


def remix(job_id: str, prompt: str) -> Verb[Job]:
    request = video_service_pb2.RemixRequest(id=job_id, prompt=prompt)
    return Verb("Remix", request, lambda answer: wire.job(answer.job), repeatable=False)


def content(job_id: str, start: int, stop: int | None) -> Verb[bytes]:
    request = video_service_pb2.ContentRequest(id=job_id, start=start, stop=stop)
    return Verb("Content", request, lambda answer: answer.chunk)


def is_serving() -> Verb[bool]:
    serving = health_pb2.HealthCheckResponse.SERVING
    return Verb("Check", health_pb2.HealthCheckRequest(), lambda answer: answer.status == serving, repeatable=False)


def models() -> Verb[list[Model]]:
    request = model_service_pb2.ListModelsRequest()
    return Verb("ListModels", request, lambda answer: [wire.model(model) for model in answer.models])


def create_session(defaults: Mapping[str, Json]) -> Verb[Session]:
    request = session_service_pb2.CreateSessionRequest()
    wire.put_json("defaults", dict(defaults), request.defaults)
    return _session("CreateSession", request, repeatable=False)


def get_session(session_id: str) -> Verb[Session]:
    return _session("GetSession", session_service_pb2.GetSessionRequest(id=session_id))


def update_session(
    session_id: str, expected_revision: int | None, defaults: Mapping[str, Json] | None, edit_state: Json | EllipsisType
) -> Verb[Session]:
    request = session_service_pb2.UpdateSessionRequest(id=session_id, expected_revision=expected_revision)
    if defaults is not None:
        wire.put_json("defaults", dict(defaults), request.defaults)
    if not isinstance(edit_state, EllipsisType):
        wire.put_json("edit_state", edit_state, request.edit_state)
    return _session("UpdateSession", request, repeatable=False)


def delete_session(session_id: str) -> Verb[None]:
    return Verb("DeleteSession", session_service_pb2.DeleteSessionRequest(id=session_id), lambda _: None)


def swap(version: str) -> Verb[Mapping[str, Any]]:
    return _outcome("Swap", admin.SwapRequest(version=version))


def rollback() -> Verb[Mapping[str, Any]]:
    return _outcome("Rollback", admin.RollbackRequest())


def drain() -> Verb[None]:
    return Verb("Drain", admin.DrainRequest(), lambda _: None)


def reload() -> Verb[Mapping[str, Any]]:
    return _outcome("Reload", admin.ReloadRequest())


def stats() -> Verb[Mapping[str, Any]]:
    return Verb("Stats", admin.StatsRequest(), lambda answer: wire.plain(answer.stats))


def execute(claims: Iterable[Claim]) -> Verb[News]:
    messages = [admin.Claim(**{name: getattr(claim, name) for name in Claim.__slots__}) for claim in claims]
    return Verb("Execute", admin.ExecuteRequest(claims=messages), _news)


def _job(method: str, request: Message) -> Verb[Job]:
    return Verb(method, request, lambda answer: wire.job(answer.job))


def _session(method: str, request: Message, *, repeatable: bool = True) -> Verb[Session]:
    return Verb(method, request, lambda answer: wire.session(answer.session), repeatable)


def _outcome(method: str, request: Message) -> Verb[Mapping[str, Any]]:
    return Verb(method, request, lambda answer: wire.plain(answer.outcome), repeatable=False)


def _news(answer: admin.ExecuteResponse) -> News:
    match answer.WhichOneof("news"):
        case "progress":
            return Executing(answer.generation, answer.progress)
        case "digest":
            return Executed(answer.generation, answer.digest)
        case "failure":
            failure = answer.failure
            return ExecuteFailed(answer.generation, failure.code, failure.message, failure.retry)
    raise ProtocolError(f"no news of {answer.generation}")
