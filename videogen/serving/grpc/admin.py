"""AdminService: swaps versions, drains, tells figures, makes what others have leased. For keys of scope `admin`."""

from collections.abc import Mapping
from typing import Any, TypeVar

import grpc

from videogen.client.results import Claim, Executed, Executing, News
from videogen.errors import InvalidRequest
from videogen.protos.videogen.v1 import admin_service_pb2 as pb
from videogen.protos.videogen.v1.admin_service_pb2_grpc import AdminServiceServicer
from videogen.serving.grpc import wire
from videogen.serving.grpc.calling import Face, answers, closing
from videogen.serving.jobs import Caller

Context = grpc.aio.ServicerContext
Told = TypeVar("Told", pb.SwapResponse, pb.RollbackResponse, pb.ReloadResponse)
MOST_CLAIMS = 1_024


class AdminFace(Face, AdminServiceServicer):
    @answers("admin")
    async def Swap(self, request: pb.SwapRequest, context: Context, caller: Caller) -> pb.SwapResponse:
        swapping = self.service.admin.swap(request.version) if request.version else self.service.admin.reload()
        return _told(pb.SwapResponse(), await swapping)

    @answers("admin")
    async def Rollback(self, request: pb.RollbackRequest, context: Context, caller: Caller) -> pb.RollbackResponse:
        return _told(pb.RollbackResponse(), await self.service.admin.rollback())

    @answers("admin")
    async def Drain(self, request: pb.DrainRequest, context: Context, caller: Caller) -> pb.DrainResponse:
        await self.service.admin.drain()
        return pb.DrainResponse()

    @answers("admin")
    async def Reload(self, request: pb.ReloadRequest, context: Context, caller: Caller) -> pb.ReloadResponse:
        return _told(pb.ReloadResponse(), await self.service.admin.reload())

    @answers("admin")
    async def Stats(self, request: pb.StatsRequest, context: Context, caller: Caller) -> pb.StatsResponse:
        answer = pb.StatsResponse()
        wire.put_json(dict(await self.service.admin.stats()), answer.stats)
        return answer

    @answers("admin")
    async def Execute(self, request: pb.ExecuteRequest, context: Context, caller: Caller) -> None:
        if not 0 < len(request.claims) <= MOST_CLAIMS:
            raise InvalidRequest("claims", f"{len(request.claims)} claims", f"1 to {MOST_CLAIMS:,}")
        claims = [Claim(**{name: getattr(claim, name) for name in Claim.__slots__}) for claim in request.claims]
        async with closing(self.service.admin.execute(claims)) as news:
            async for item in news:
                await context.write(_news(item))


def _told(answer: Told, outcome: Mapping[str, Any]) -> Told:
    wire.put_json(dict(outcome), answer.outcome)
    return answer


def _news(item: News) -> pb.ExecuteResponse:
    if isinstance(item, Executing):
        return pb.ExecuteResponse(generation=item.generation, progress=item.progress)
    if isinstance(item, Executed):
        return pb.ExecuteResponse(generation=item.generation, digest=item.digest)
    failure = pb.ExecuteFailure(message=item.message, code=item.code, retry=item.retry)
    return pb.ExecuteResponse(generation=item.generation, failure=failure)
