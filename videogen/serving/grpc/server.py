"""The gRPC server: all services of videogen.v1, health and reflection, on one port of one event loop."""

from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha import reflection

from videogen.errors import InvalidRequest
from videogen.protos.videogen.v1 import admin_service_pb2, model_service_pb2, session_service_pb2, video_service_pb2
from videogen.protos.videogen.v1.admin_service_pb2_grpc import add_AdminServiceServicer_to_server
from videogen.protos.videogen.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from videogen.protos.videogen.v1.session_service_pb2_grpc import add_SessionServiceServicer_to_server
from videogen.protos.videogen.v1.video_service_pb2_grpc import add_VideoServiceServicer_to_server
from videogen.serving.access import Access
from videogen.serving.grpc.admin import AdminFace
from videogen.serving.grpc.at_once import BoundsCalls
from videogen.serving.grpc.health import Health
from videogen.serving.grpc.held_open import BOUNDS, Bound, BoundsStreams
from videogen.serving.grpc.malformed import ReadsMalformed
from videogen.serving.grpc.models_and_sessions import ModelFace, SessionFace
from videogen.serving.grpc.videos import VideoFace
from videogen.serving.limits import Limits
from videogen.serving.service import Service

PORT = 50_051
MOST_CALLS = 1_024
"""Calls at a time, of all clients together; one more is told RESOURCE_EXHAUSTED, but for those about the health."""
MOST_OPEN = 4
"""Times as many may be open, with those whose message has yet to come."""
OPTIONS = (
    ("grpc.max_allowed_incoming_connections", 1_024),
    ("grpc.max_connection_idle_ms", 300_000),  # one without calls for so long is closed; a client opens another
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_receive_message_length", 1024 * 1024),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.so_reuseport", 0),  # a second service on a port is told so, instead of getting half of its calls
    ("grpc.keepalive_time_ms", 60_000),  # a client that went without a word is found out
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
)
FILES = (video_service_pb2, model_service_pb2, session_service_pb2, admin_service_pb2)
SERVICES = tuple(service.full_name for file in FILES for service in file.DESCRIPTOR.services_by_name.values())


class GrpcServer:
    """Serves `core` at `host` and `port`, 0 for any free one; `port` is then the one that it is. For one event loop."""

    def __init__(
        self,
        core: Service,
        access: Access,
        limits: Limits,
        host: str = "127.0.0.1",
        port: int = PORT,
        most_calls: int = MOST_CALLS,
        bounds: Mapping[str, Bound] = BOUNDS,
    ) -> None:
        self.core, self.access, self.limits = core, access, limits
        self.host, self.port, self.most_calls, self.bounds = host, port, most_calls, bounds
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Raises InvalidRequest if the port is taken."""
        server = self._server = grpc.aio.server(
            interceptors=[BoundsCalls(self.most_calls), ReadsMalformed(), BoundsStreams(self.bounds)],
            options=OPTIONS,
            maximum_concurrent_rpcs=MOST_OPEN * self.most_calls,
        )
        parts = self.core, self.access, self.limits
        self._videos = VideoFace(*parts)
        add_VideoServiceServicer_to_server(self._videos, server)
        add_ModelServiceServicer_to_server(ModelFace(*parts), server)
        add_SessionServiceServicer_to_server(SessionFace(*parts), server)
        add_AdminServiceServicer_to_server(AdminFace(*parts), server)
        add_HealthServicer_to_server(Health(self.core, SERVICES), server)
        own = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
        reflection.enable_server_reflection((*SERVICES, *own), server)
        host = f"[{self.host}]" if ":" in self.host.strip("[]") and not self.host.startswith("[") else self.host
        try:
            self.port = server.add_insecure_port(f"{host}:{self.port}")
        except RuntimeError as error:
            raise InvalidRequest("grpc_port", self.port, f"a port that is free on {self.host}") from error
        await server.start()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Takes no new calls, and ends those that last longer than `grace_s`; no request is cancelled for it."""
        if self._server is None:
            return
        self._videos.stopping = True
        await self._server.stop(grace_s)
