"""ModelService and SessionService: what is served, and clients' sessions."""

from types import EllipsisType
from typing import Any

import grpc

from videogen.client.wire import plain
from videogen.protos.videogen.v1 import model_service_pb2, session_service_pb2
from videogen.protos.videogen.v1.model_service_pb2_grpc import ModelServiceServicer
from videogen.protos.videogen.v1.session_service_pb2_grpc import SessionServiceServicer
from videogen.serving.grpc import wire
from videogen.serving.grpc.calling import Face, answers
from videogen.serving.jobs import Caller

Context = grpc.aio.ServicerContext


class ModelFace(Face, ModelServiceServicer):
    @answers()
    async def ListModels(
        self, request: model_service_pb2.ListModelsRequest, context: Context, caller: Caller
    ) -> model_service_pb2.ListModelsResponse:
        models = await self.service.models(caller)
        return model_service_pb2.ListModelsResponse(models=map(wire.model, models))


class SessionFace(Face, SessionServiceServicer):
    @answers()
    async def CreateSession(
        self, request: session_service_pb2.CreateSessionRequest, context: Context, caller: Caller
    ) -> session_service_pb2.CreateSessionResponse:
        await self.take(caller, context)
        session = await self.service.sessions.create(caller, plain(request.defaults))
        return session_service_pb2.CreateSessionResponse(session=wire.session(session))

    @answers(reads="look")
    async def GetSession(
        self, request: session_service_pb2.GetSessionRequest, context: Context, caller: Caller
    ) -> session_service_pb2.GetSessionResponse:
        session = await self.service.sessions.get(request.id, caller)
        return session_service_pb2.GetSessionResponse(session=wire.session(session))

    @answers()
    async def UpdateSession(
        self, request: session_service_pb2.UpdateSessionRequest, context: Context, caller: Caller
    ) -> session_service_pb2.UpdateSessionResponse:
        edit_state: Any | EllipsisType = plain(request.edit_state) if request.HasField("edit_state") else ...
        await self.take(caller, context)
        session = await self.service.sessions.update(
            request.id,
            caller,
            expected_revision=request.expected_revision if request.HasField("expected_revision") else None,
            defaults=plain(request.defaults) if request.HasField("defaults") else None,
            edit_state=edit_state,
        )
        return session_service_pb2.UpdateSessionResponse(session=wire.session(session))

    @answers(reads="look")
    async def DeleteSession(
        self, request: session_service_pb2.DeleteSessionRequest, context: Context, caller: Caller
    ) -> session_service_pb2.DeleteSessionResponse:
        await self.service.sessions.delete(request.id, caller)
        return session_service_pb2.DeleteSessionResponse()
