"""What the gRPC face holds at once, over real connections: streams that need no key, looks, and a service that ends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthStub
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection_pb2_grpc import ServerReflectionStub
from grpc_status import rpc_status

from tests.serving.in_process import CALLER, run, served
from videogen.client.aio import AsyncClient
from videogen.errors import Draining
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.video_pb2 import VideoSpec
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceStub
from videogen.serving import looking
from videogen.serving.access import Access
from videogen.serving.engine.messages import Synthetic
from videogen.serving.grpc import server as grpc_server
from videogen.serving.grpc.held_open import BOUNDS, Bound
from videogen.serving.grpc.server import GrpcServer
from videogen.serving.limits import Limits
from videogen.serving.service import Service
from videogen.settings import ServingLimits
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.rate_limits import RateLimit
from videogen.store.store import Store

WATCH, REFLECTION = BOUNDS
SPEC = VideoSpec(prompt="a red circle")
ASKS = reflection_pb2.ServerReflectionRequest(list_services="")


@dataclass
class Facing:
    service: Service
    server: GrpcServer
    channel: grpc.aio.Channel


@asynccontextmanager
async def facing(limits: ServingLimits | None = None, **bounds: Bound) -> AsyncIterator[Facing]:
    store = Store(MemoryRecordStore())
    named = {"watch": WATCH, "reflection": REFLECTION}
    async with served(store, Synthetic(fixed_s=0.005)) as service:
        access = Access(store.api_keys)
        held = {named[name]: bound for name, bound in bounds.items()}
        taken = Limits(store.rate_limits, access, limits or ServingLimits())
        server = GrpcServer(service, access, taken, port=0, bounds=held)
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            try:
                yield Facing(service, server, channel)
            finally:
                await server.stop(0)


@asynccontextmanager
async def relay(port: int, host: str) -> AsyncIterator[int]:
    """A port behind which `port` is, as if called from the address `host`."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def both_ways(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
        await asyncio.gather(pump(reader, back), pump(there, writer))

    async with await asyncio.start_server(both_ways, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, dict[str, object]]:
    with pytest.raises(grpc.RpcError) as caught:
        await call
    return caught.value.code(), dict(_details(rpc_status.from_call(caught.value)))


def _details(status):
    for detail in status.details if status else ():
        kind = getattr(error_details_pb2, detail.TypeName().rpartition(".")[2])()
        detail.Unpack(kind)
        yield type(kind).__name__, kind


async def holds(what: Callable[[], Awaitable[bool]]) -> None:
    while not await what():
        await asyncio.sleep(0.02)


def test_those_who_watch_the_health_are_bounded():
    async def test() -> None:
        async with facing(watch=Bound(2)) as face:
            health, asked = HealthStub(face.channel), health_pb2.HealthCheckRequest()
            watching = [health.Watch(asked) for _ in range(2)]
            for one in watching:
                assert (await one.read()).status == health_pb2.HealthCheckResponse.SERVING
            code, _ = await refused(health.Watch(asked).read())
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
            watching[0].cancel()

            async def is_let_in() -> bool:
                try:
                    return (await health.Watch(asked).read()).status == health_pb2.HealthCheckResponse.SERVING
                except grpc.RpcError:
                    return False

            await holds(is_let_in)

    run(test)


def test_one_address_does_not_hold_all_places_of_those_who_watch_the_health():
    async def test() -> None:
        async with facing(watch=Bound(8, each=1)) as face:
            asked, watching = health_pb2.HealthCheckRequest(), HealthStub(face.channel)
            first = watching.Watch(asked)
            await first.read()
            code, _ = await refused(watching.Watch(asked).read())
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            async with relay(face.server.port, "127.0.0.2") as port:
                async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                    told = await HealthStub(channel).Watch(asked).read()
                    assert told.status == health_pb2.HealthCheckResponse.SERVING

    run(test)


def test_streams_of_reflection_are_bounded_in_number_and_in_time():
    async def test() -> None:
        async with facing(reflection=Bound(1, 2.0)) as face:
            reflection = ServerReflectionStub(face.channel)
            idle = reflection.ServerReflectionInfo()
            await idle.write(ASKS)
            assert (await idle.read()).list_services_response.service
            second = reflection.ServerReflectionInfo()
            assert (await refused(second.read()))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert (await refused(idle.read()))[0] == grpc.StatusCode.DEADLINE_EXCEEDED
            again = reflection.ServerReflectionInfo()
            await again.write(ASKS)
            assert (await again.read()).list_services_response.service

    run(test)


MOST, LEFT, RESET = (f"x-ratelimit-{name}-requests" for name in ("limit", "remaining", "reset"))


def test_looks_have_a_limit_of_their_own():
    async def test() -> None:
        async with facing(ServingLimits(tenant_reads=RateLimit.per_minute(0.01, burst=2))) as face:
            videos = VideoServiceStub(face.channel)
            job_id = (await videos.Submit(pb.SubmitRequest(spec=SPEC))).job.id
            got = videos.Get(pb.GetRequest(id=job_id))
            assert (await got).job.id == job_id and dict(await got.trailing_metadata())[LEFT] == "1"
            gone, told = videos.Get(pb.GetRequest(id="nope")), "grpc-status-details-bin"
            assert (await refused(gone))[0] == grpc.StatusCode.NOT_FOUND
            left = dict(await gone.trailing_metadata())
            assert left[LEFT] == "0" and left[MOST] == "2" and told in left and RESET in left
            answered = [videos.Get(pb.GetRequest(id=job_id)), videos.List(pb.ListRequest())]
            streams = [videos.Content(pb.ContentRequest(id=job_id)), videos.Watch(pb.WatchRequest(id=job_id))]
            for call, ends in [*((one, one) for one in answered), *((one, one.read()) for one in streams)]:
                code, details = await refused(ends)
                assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
                assert details["ErrorInfo"].reason == "RATE_LIMITED" and details["RetryInfo"].retry_delay.seconds > 60
                left = dict(await call.trailing_metadata())
                assert left[LEFT] == "0" and int(left["retry-after"]) > 60
            assert (await videos.Submit(pb.SubmitRequest(spec=SPEC))).job.id
            await videos.Cancel(pb.CancelRequest(id=job_id))
            await videos.Delete(pb.DeleteRequest(id=job_id))
            assert (await refused(videos.Delete(pb.DeleteRequest(id=job_id))))[0] == grpc.StatusCode.RESOURCE_EXHAUSTED

    run(test)


def test_a_list_says_that_it_leaves_older_ones_out(monkeypatch):
    monkeypatch.setattr(looking, "MOST_LISTED", 2)

    async def test() -> None:
        async with facing() as face:
            videos = VideoServiceStub(face.channel)
            for is_cut in (False, False, True):
                await videos.Submit(pb.SubmitRequest(spec=SPEC))
                assert (await videos.List(pb.ListRequest())).cut == is_cut
            async with AsyncClient(f"127.0.0.1:{face.server.port}") as client:
                page = await client.list()
                assert page.is_cut and len(page.jobs) <= 2

    run(test)


def test_a_service_that_ends_is_unavailable_rather_than_overloaded():
    async def test() -> None:
        async with facing() as face:
            videos = VideoServiceStub(face.channel)
            job_id = (await videos.Submit(pb.SubmitRequest(spec=SPEC))).job.id
            await face.service.admin.drain()
            remix = pb.RemixRequest(id=job_id, prompt="a blue circle")
            for call in (videos.Submit(pb.SubmitRequest(spec=SPEC)), videos.Remix(remix)):
                code, details = await refused(call)
                assert code == grpc.StatusCode.UNAVAILABLE and details["ErrorInfo"].reason == "DRAINING"
                assert details["RetryInfo"].retry_delay.seconds >= 1
            with pytest.raises(Draining):
                await anext(aiter(face.service.admin.execute([])))
            assert (await videos.Get(pb.GetRequest(id=job_id))).job.id == job_id

    run(test)


def test_while_the_store_is_away_calls_are_told_at_once_when_to_come_again():
    async def test() -> None:
        async with facing() as face:
            videos = VideoServiceStub(face.channel)
            job_id = (await videos.Submit(pb.SubmitRequest(spec=SPEC))).job.id
            face.service.readiness.away = "the store is away: no answer"
            for call in (videos.Submit(pb.SubmitRequest(spec=SPEC)), videos.Get(pb.GetRequest(id=job_id))):
                code, details = await refused(call)
                assert code == grpc.StatusCode.UNAVAILABLE and details["ErrorInfo"].reason == "STORE_UNAVAILABLE"
                assert details["RetryInfo"].retry_delay.seconds >= 1
            face.service.readiness.away = None
            assert (await face.service.get(job_id, CALLER)).id == job_id

    run(test)


def test_health_tells_whether_it_lives_apart_from_whether_it_is_ready():
    async def test() -> None:
        async with facing() as face:
            health = HealthStub(face.channel)

            async def told() -> list[int]:
                asked = [health_pb2.HealthCheckRequest(service=name) for name in ("live", "")]
                return [(await health.Check(one)).status for one in asked]

            serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
            assert await told() == [serving, serving]
            await face.service.admin.drain()
            assert await told() == [serving, not_serving]
            face.service.maker.tasks.lost.append("claiming has ended")
            assert await told() == [not_serving, not_serving]

    run(test)


def test_connections_are_bounded_and_those_that_say_nothing_are_closed(monkeypatch):
    few = {**dict(grpc_server.OPTIONS), "grpc.max_allowed_incoming_connections": 3}
    assert set(few) == set(dict(grpc_server.OPTIONS)), "it is bounded"
    monkeypatch.setattr(grpc_server, "OPTIONS", tuple(few.items()))

    async def test() -> None:
        async with facing() as face:
            mute = [socket.create_connection(("127.0.0.1", face.server.port), timeout=30) for _ in range(3)]
            health, asked = HealthStub(face.channel), health_pb2.HealthCheckRequest()
            code, _ = await refused(health.Check(asked))
            assert code == grpc.StatusCode.UNAVAILABLE
            for one in mute:
                with one:
                    while await asyncio.to_thread(one.recv, 4096):
                        pass
            told = await health.Check(asked, wait_for_ready=True)
            assert told.status == health_pb2.HealthCheckResponse.SERVING

    run(test)
