"""The gRPC face as any client sees it: details of errors, health, reflection, keys, and calls that end badly."""

import socket
import time
from collections.abc import Callable, Iterator

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status

from tests.serving.grpc.core import OVERLOADED, MemoryCore
from tests.serving.grpc.serving import Served, serving
from videogen.errors import InvalidRequest
from videogen.protos.videogen.v1 import session_service_pb2
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.session_service_pb2_grpc import SessionServiceStub
from videogen.protos.videogen.v1.video_pb2 import VideoSpec
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub
from videogen.serving.grpc.calling import peer_is_loopback
from videogen.serving.grpc.server import SERVICES

GENERATE = "/videogen.v1.VideoService/Generate"
SUBMIT = "/videogen.v1.VideoService/Submit"


@pytest.fixture
def served() -> Iterator[Served]:
    with serving() as served:
        yield served


@pytest.fixture
def channel(served: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(served.address) as channel:
        yield channel


def until(holds: Callable[[], object]) -> None:
    ends = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends, "it never came to hold"
        time.sleep(0.01)


def submit(channel: grpc.Channel, **given: object) -> pb.SubmitResponse:
    metadata = given.pop("metadata", ())
    return VideoServiceStub(channel).Submit(pb.SubmitRequest(**given), timeout=20, metadata=metadata)


def refused(channel: grpc.Channel, **given: object) -> tuple[grpc.StatusCode, dict[str, object]]:
    with pytest.raises(grpc.RpcError) as caught:
        submit(channel, **given)
    status = rpc_status.from_call(caught.value)
    details: dict[str, object] = {}
    for detail in status.details if status else ():
        kind = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
        detail.Unpack(kind)
        details[type(kind).__name__] = kind
    return caught.value.code(), details


def test_a_field_that_is_not_allowed_comes_with_its_details(channel):
    code, details = refused(channel, spec=VideoSpec(prompt="a red circle", width=65))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    (violation,) = details["BadRequest"].field_violations
    assert violation.field == "width" and violation.description.startswith("got 65; allowed: ")
    assert details["ErrorInfo"].metadata["given"] == "65" and details["ErrorInfo"].domain == "videogen"
    code, details = refused(channel)
    assert details["BadRequest"].field_violations[0].field == "spec"


def test_overload_comes_with_the_time_to_wait(served, channel):
    served.core.refuse_with = OVERLOADED
    code, details = refused(channel, spec=VideoSpec(prompt="a red circle"))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert details["RetryInfo"].retry_delay.ToMilliseconds() == 2_500
    assert details["ErrorInfo"].reason == "OVERLOADED"


def test_the_longest_of_errors_still_fits_its_headers(served, channel):
    served.core.refuse_with = InvalidRequest("prompt", "x" * 500_000, "y" * 500_000 + "\ud800")
    code, details = refused(channel, spec=VideoSpec(prompt="a red circle"))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and details["ErrorInfo"].metadata["field"] == "prompt"


def test_a_fault_of_ours_is_told_without_its_text(served, channel):
    served.core.refuse_with = RuntimeError("of a secret place")
    with pytest.raises(grpc.RpcError) as caught:
        submit(channel, spec=VideoSpec(prompt="a red circle"))
    assert caught.value.code() == grpc.StatusCode.INTERNAL and "secret" not in caught.value.details()


def test_what_changes_sessions_is_limited_as_what_makes_videos_is(channel):
    stub = SessionServiceStub(channel)
    calls = {
        stub.CreateSession: session_service_pb2.CreateSessionRequest(),
        stub.UpdateSession: session_service_pb2.UpdateSessionRequest(id="s0"),
    }
    for call, request in calls.items():
        with pytest.raises(grpc.RpcError) as caught:
            call(request, timeout=20, metadata=(("authorization", "Bearer bob"),))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_an_idempotency_key_may_come_as_metadata(channel):
    spec = VideoSpec(prompt="a red circle")
    key = (("idempotency-key", "k"),)
    one = submit(channel, spec=spec, metadata=key).job.id
    assert submit(channel, spec=spec, idempotency_key="k").job.id == one
    code, details = refused(channel, spec=spec, idempotency_key="other", metadata=key)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert details["BadRequest"].field_violations[0].field == "idempotency_key"


def test_fields_of_another_version_are_refused_rather_than_ignored(channel):
    inner = VideoSpec(prompt="a red circle").SerializeToString() + b"\xf8\x7f\x01"  # field 2047
    packed = b"\x0a" + bytes([len(inner)]) + inner
    raw = channel.unary_unary(SUBMIT)
    with pytest.raises(grpc.RpcError) as caught:
        raw(packed, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and "2047" in caught.value.details()


def test_health_follows_the_core(served, channel):
    health = HealthStub(channel)
    for name in ("", *SERVICES):
        assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == 1
    watching = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
    served.core.ready = False
    assert next(watching).status == health_pb2.HealthCheckResponse.NOT_SERVING
    assert health.Check(health_pb2.HealthCheckRequest(), timeout=20).status == 2
    watching.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        health.Check(health_pb2.HealthCheckRequest(service="no.such"), timeout=20)
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert next(health.Watch(health_pb2.HealthCheckRequest(service="no.such"), timeout=20)).status == 3


def test_reflection_is_enough_to_call(channel):
    """As grpcurl does it: nothing of ours is imported, messages are JSON."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert {*SERVICES, "grpc.health.v1.Health"} <= set(database.get_services())
    pool = DescriptorPool(database)
    method = pool.FindServiceByName("videogen.v1.VideoService").FindMethodByName("Submit")
    asked, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    call = channel.unary_unary(SUBMIT, asked.SerializeToString, answer.FromString)
    request = json_format.ParseDict({"spec": {"prompt": "a red circle", "seed": "3"}}, asked())
    told = json_format.MessageToDict(call(request, timeout=20))
    assert told["job"]["spec"]["seed"] == "3" and told["job"]["status"] == "JOB_STATUS_QUEUED"


def test_a_client_that_does_not_read_is_not_read_for(served, channel):
    """What it does not take stays in the store: no more is read than fits into the windows between the two."""
    served.core.video = b"v" * 60_000_000
    job_id = submit(channel, spec=VideoSpec(prompt="a red circle", num_inference_steps=1)).job.id
    until(lambda: served.core.jobs[job_id].has_ended)
    stream = VideoServiceStub(channel).Content(pb.ContentRequest(id=job_id), timeout=60)
    assert next(stream).total_size == 60_000_000
    time.sleep(1.0)
    assert served.core.read < 30_000_000
    assert submit(channel, spec=VideoSpec(prompt="a red circle")).job.id  # others go on meanwhile
    assert sum(len(part.chunk) for part in stream) == 60_000_000


def test_a_range_must_lie_within(served, channel):
    job_id = submit(channel, spec=VideoSpec(prompt="a red circle", num_inference_steps=1)).job.id
    until(lambda: served.core.jobs[job_id].has_ended)
    stub = VideoServiceStub(channel)
    for start, stop, field in ((-1, None, "start"), (700_001, None, "start"), (5, 4, "stop"), (5, -1, "stop")):
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Content(pb.ContentRequest(id=job_id, start=start, stop=stop), timeout=20))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and field in caught.value.details()


def test_generate_may_be_left_running(served, channel):
    served.core.step_s = 0.02
    stub = VideoServiceStub(channel)
    request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", num_inference_steps=10), keep_running=True)
    stream = stub.Generate(request, timeout=20)
    job_id = next(stream).progress.id
    stream.cancel()
    until(lambda: served.core.jobs[job_id].status == "completed")
    assert served.core.stopped == []


def test_malformed_oversized_and_broken_calls_leave_it_as_it_was(served, channel):
    raw = channel.unary_unary(SUBMIT)
    for body in (b"\xff" * 50, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x02\x0a\xff"):
        with pytest.raises(grpc.RpcError) as caught:
            raw(body, timeout=20)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        raw(VideoSpec(prompt="x" * 2_000_000).SerializeToString(), timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/videogen.v1.VideoService/NoSuch")(b"", timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    with pytest.raises(grpc.RpcError):  # closed before it sent its message, and with one too many
        channel.stream_unary(SUBMIT)(iter(()), timeout=1)
    with pytest.raises(grpc.RpcError):
        channel.stream_unary(SUBMIT)(iter([b"", b""]), timeout=1)
    for start in (b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x00" * 64, b""):
        with socket.create_connection(("127.0.0.1", served.server.port)) as broken:
            broken.sendall(start + b"\x00\x00\x05\x01\x25\x00\x00\x00\x01ab")
    assert submit(channel, spec=VideoSpec(prompt="a red circle")).job.id
    until(lambda: served.core.watchers == 0)


def test_a_hundred_calls_that_are_left_leave_nothing_behind(served):
    served.core.step_s = 0.05
    for _ in range(10):
        with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", num_inference_steps=50))
            for stream in [VideoServiceStub(channel).Generate(request) for _ in range(10)]:
                next(stream)
    until(lambda: served.core.watchers == 0 and len(served.core.stopped) == served.core.submits == 100)


def test_calls_at_a_time_are_bounded():
    with serving(MemoryCore(step_s=5.0), most_calls=3) as served, grpc.insecure_channel(served.address) as channel:
        stub = VideoServiceStub(channel)
        request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle"))
        running = [stub.Generate(request) for _ in range(3)]
        assert all(next(stream).progress.id for stream in running)
        with pytest.raises(grpc.RpcError) as caught:
            submit(channel, spec=VideoSpec(prompt="a red circle"))
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        running[0].cancel()
        until(lambda: len(served.core.stopped) == 1)
        assert submit(channel, spec=VideoSpec(prompt="a red circle")).job.id
        for stream in running:
            stream.cancel()


def test_limits_hold_for_what_asks_and_for_what_streams(served, channel):
    bob = (("authorization", "Bearer bob"),)
    code, details = refused(channel, spec=VideoSpec(prompt="a red circle"), metadata=bob)
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and details["RetryInfo"].retry_delay.seconds == 60
    code, details = refused(channel, spec=VideoSpec(prompt="x" * 1_001))
    assert details["BadRequest"].field_violations[0].field == "prompt"
    served.server.limits.streams = 200
    stub, request = VideoServiceStub(channel), pb.GenerateRequest(spec=VideoSpec(prompt="a red circle"))
    for call in (stub.Generate(request, timeout=20), stub.Watch(pb.WatchRequest(id="x"), timeout=20)):
        with pytest.raises(grpc.RpcError, match="200 streams"):
            list(call)
    served.server.limits.streams = 0
    assert list(stub.Generate(request, timeout=20))
    assert served.server.limits.streams == 0


def test_a_port_that_is_taken_is_told(served):
    with pytest.raises(InvalidRequest, match="grpc_port"):
        with serving(port=served.server.port):
            pass


@pytest.mark.parametrize(
    ("peer", "is_loopback"),
    [
        ("ipv4:127.0.0.1:5000", True),
        ("ipv6:%5B::1%5D:5000", True),
        ("ipv6:[::ffff:127.0.0.1]:5000", True),
        ("unix:/run/x", True),
        ("ipv4:10.0.0.1:5000", False),
        ("ipv6:%5B2001:db8::1%5D:5000", False),
        ("", False),
    ],
)
def test_peers(peer, is_loopback):
    assert peer_is_loopback(peer) is is_loopback
