"""The gRPC face as any client sees it: details of errors, health, reflection, keys, and calls that end badly."""

import socket
import threading
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

from tests.serving.grpc.serving import SLOW, Failing, Served, serving
from tests.store.builders import accepted
from videogen.client.results import Executed
from videogen.errors import InvalidRequest, ServiceAway
from videogen.protos.videogen.v1 import session_service_pb2
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.session_service_pb2_grpc import SessionServiceStub
from videogen.protos.videogen.v1.video_pb2 import VideoSpec
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub
from videogen.remote import RemoteService
from videogen.serving.grpc.calling import peer_is_loopback
from videogen.serving.grpc.errors import status_of
from videogen.serving.grpc.server import SERVICES
from videogen.serving.telemetry.observing import Observer
from videogen.settings import ServingLimits
from videogen.store.rate_limits import RateLimit

SUBMIT = "/videogen.v1.VideoService/Submit"


ONCE = ServingLimits(tenant=RateLimit(per_second=1 / 3600, burst=1))


@pytest.fixture(scope="module")
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


def test_a_list_goes_on_only_after_what_the_caller_has_had(channel):
    with pytest.raises(grpc.RpcError) as caught:
        VideoServiceStub(channel).List(pb.ListRequest(page_token="zzz"), timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith("page_token: got 'zzz'")


def test_every_refusal_is_counted_once():
    class Counts(Observer):
        def __init__(self) -> None:
            self.reasons: list[str] = []

        def refused(self, why: str) -> None:
            self.reasons.append(why)

    seen = Counts()
    with serving(observer=seen) as served, grpc.insecure_channel(served.address) as channel:
        for spec in ({"width": 65}, {"prompt": "x" * 4_001}, {"deadline": 0.001}):
            refused(channel, spec=VideoSpec(**{"prompt": "a red circle", **spec}))
        refused(channel)
    assert sorted(seen.reasons) == ["invalid_request"] * 3 + ["overloaded"]


def test_overload_comes_with_the_time_to_wait(channel):
    code, details = refused(channel, spec=VideoSpec(prompt="a red circle", deadline=0.001))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert 1 <= details["RetryInfo"].retry_delay.ToMilliseconds() < 60_000
    assert details["ErrorInfo"].reason == "OVERLOADED"


def test_the_longest_of_errors_still_fits_its_headers(channel):
    code, details = refused(channel, spec=VideoSpec(prompt="x" * 500_000))
    assert code == grpc.StatusCode.INVALID_ARGUMENT and details["ErrorInfo"].metadata["field"] == "prompt"
    longest = InvalidRequest("prompt", "x" * 500_000, "y" * 500_000 + "\ud800")
    assert len(status_of(longest).SerializeToString()) < 8_000


def test_a_fault_of_ours_is_told_without_its_text(served, channel):
    with served.records.failing(RuntimeError("of a secret place")), pytest.raises(grpc.RpcError) as caught:
        submit(channel, spec=VideoSpec(prompt="a red circle"))
    assert caught.value.code() == grpc.StatusCode.INTERNAL and "secret" not in caught.value.details()


def test_what_changes_sessions_is_limited_as_what_makes_videos_is():
    with serving(limits=ONCE) as served, grpc.insecure_channel(served.address) as channel:
        asked = VideoServiceStub(channel).Submit.with_call(pb.SubmitRequest(spec=VideoSpec(prompt="a red circle")))[1]
        assert dict(asked.trailing_metadata())["x-ratelimit-remaining-requests"] == "0"
        stub = SessionServiceStub(channel)
        calls = {
            stub.CreateSession: session_service_pb2.CreateSessionRequest(),
            stub.UpdateSession: session_service_pb2.UpdateSessionRequest(id="s0"),
        }
        for call, request in calls.items():
            with pytest.raises(grpc.RpcError) as caught:
                call(request, timeout=20)
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


def test_health_follows_the_service():
    with serving() as served, grpc.insecure_channel(served.address) as channel:
        health = HealthStub(channel)
        for name in ("", *SERVICES):
            assert health.Check(health_pb2.HealthCheckRequest(service=name), timeout=20).status == 1
        watching = health.Watch(health_pb2.HealthCheckRequest(), timeout=20)
        assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
        served.run(served.service.admin.drain)
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


class Counting(Failing):
    """Counts the bytes of videos that are read."""

    bytes_read = 0

    def read_many(self, kind, keys, aged=False):
        found = super().read_many(kind, keys, aged)
        self.bytes_read += sum(len(record.payload or b"") for record in found if record is not None)
        return found


def test_a_client_that_does_not_read_is_not_read_for():
    """What it does not take stays in the store: no more is read than fits into the windows between the two."""
    records, video = Counting(), b"v" * 60_000_000
    with serving(records=records) as served, grpc.insecure_channel(served.address) as channel:
        job_id = served.store.submit(accepted()).id
        (claim,) = served.store.claim([job_id], "run", 60.0)
        served.store.publish(claim, video, {})
        records.bytes_read = 0
        stream = VideoServiceStub(channel).Content(pb.ContentRequest(id=job_id), timeout=60)
        assert next(stream).total_size == len(video)
        time.sleep(1.0)
        assert 0 < records.bytes_read < 30_000_000
        assert submit(channel, spec=VideoSpec(prompt="a red circle")).job.id  # others go on meanwhile
        assert sum(len(part.chunk) for part in stream) == len(video)


def test_a_range_must_lie_within(served, channel):
    job_id = submit(channel, spec=VideoSpec(prompt="a red circle")).job.id
    until(lambda: served.store.request(job_id).state == "done")
    stub = VideoServiceStub(channel)
    size = next(stub.Content(pb.ContentRequest(id=job_id), timeout=20)).total_size
    for start, stop, field in ((-1, None, "start"), (size + 1, None, "start"), (5, 4, "stop"), (5, -1, "stop")):
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Content(pb.ContentRequest(id=job_id, start=start, stop=stop), timeout=20))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and field in caught.value.details()


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
    until(lambda: len(served.service.maker.changes) == 0)


def test_a_hundred_calls_that_are_left_leave_nothing_behind():
    with serving(SLOW, limits=ServingLimits(tenant_streams=200)) as served:
        for _ in range(10):
            with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", num_inference_steps=50))
                for stream in [VideoServiceStub(channel).Generate(request) for _ in range(10)]:
                    next(stream)
        service = served.service
        until(lambda: not (len(service.maker.changes) or service.work.in_hand))
        assert [record.state for record in served.store.requests()] == ["cancelled"] * 100


def test_a_call_that_is_left_is_made_for_nobody_however_many_others_ask():
    with serving(SLOW) as served, grpc.insecure_channel(served.address) as channel:
        stream = VideoServiceStub(channel).Generate(
            pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", num_inference_steps=50))
        )
        next(stream)
        served.service.calls.most = 0
        stream.cancel()
        until(lambda: [record.state for record in served.store.requests()] == ["cancelled"])
        until(lambda: not served.service.work.in_hand)


def test_a_run_that_comes_while_too_many_others_ask_comes_once_more():
    with serving() as served:
        request = served.service.versions.accept({"prompt": "a red circle", "lane": "batch"}, "default")
        served.store.submit(request)
        claims = served.store.claim([request.id], "run", 60.0)
        service, calls = RemoteService(served.address), served.service.calls
        served.server.access.executor, calls.most = calls, 0
        with pytest.raises(ServiceAway, match="calls wait for the store"):
            list(service.execute(claims))
        threading.Timer(0.3, setattr, (calls, "most", 512)).start()
        assert [type(item) for item in service.execute(claims)][-1] is Executed


def test_calls_at_a_time_are_bounded():
    with serving(SLOW, most_calls=3) as served, grpc.insecure_channel(served.address) as channel:
        stub = VideoServiceStub(channel)
        request = pb.GenerateRequest(spec=VideoSpec(prompt="a red circle", num_inference_steps=50))
        running = [stub.Generate(request) for _ in range(3)]
        assert all(next(stream).progress.id for stream in running)
        spec = VideoSpec(prompt="a red circle")
        assert refused(channel, spec=spec)[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
        lives = HealthStub(channel).Check(health_pb2.HealthCheckRequest(service="live"), timeout=20)
        assert lives.status == health_pb2.HealthCheckResponse.SERVING, "it is full, and lives"
        running[0].cancel()

        def has_room() -> bool:
            call = stub.Submit.future(pb.SubmitRequest(spec=spec), timeout=20)
            return call.code() == grpc.StatusCode.OK

        until(has_room)
        for stream in running:
            stream.cancel()


def test_limits_hold_for_what_asks_and_for_what_streams(channel):
    spec = VideoSpec(prompt="a red circle")
    code, details = refused(channel, spec=VideoSpec(prompt="x" * 4_001))
    assert details["BadRequest"].field_violations[0].field == "prompt"
    with serving(limits=ONCE) as served, grpc.insecure_channel(served.address) as limited:
        submit(limited, spec=spec)
        code, details = refused(limited, spec=spec)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and 3500 < details["RetryInfo"].retry_delay.seconds <= 3600
    with serving(SLOW, limits=ServingLimits(tenant_streams=1)) as served:
        with grpc.insecure_channel(served.address) as limited:
            stub, request = VideoServiceStub(limited), pb.GenerateRequest(spec=spec)
            held = stub.Generate(request, timeout=20)
            next(held)
            for call in (stub.Generate(request, timeout=20), stub.Watch(pb.WatchRequest(id="x"), timeout=20)):
                with pytest.raises(grpc.RpcError, match="1 streams"):
                    list(call)
            assert list(held)[-1].HasField("finished")
            assert list(stub.Generate(request, timeout=20)), "what has ended holds no stream"


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
