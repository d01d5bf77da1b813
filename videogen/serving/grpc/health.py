"""grpc.health.v1: SERVING exactly while the core is ready, or lives, asked anew each time."""

import asyncio
from collections.abc import Iterable

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import HealthServicer

from videogen.serving.service import Service

LIVE = "live"
LOOK_S = 0.25
"""How often somebody who watches is looked after."""


class Health(HealthServicer):
    """Of the whole server, "", and of each service by its full name, if it is ready; of `LIVE`, if it lives."""

    def __init__(self, service: Service, names: Iterable[str]) -> None:
        self.service, self.names = service, frozenset(names) | {"", LIVE}

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self.names:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no service {request.service[:100]!r}")
        return health_pb2.HealthCheckResponse(status=self._status(request.service))

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext) -> None:
        told = None
        while True:
            if (status := self._status(request.service)) != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            await asyncio.sleep(LOOK_S)

    def _status(self, name: str) -> "health_pb2.HealthCheckResponse.ServingStatus":
        if name not in self.names:
            return health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        now = self.service.readiness
        serving = now.live if name == LIVE else now.ready
        return health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
