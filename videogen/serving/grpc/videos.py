"""VideoService: makes videos, tells how requests stand, streams what was made."""

import asyncio
from collections.abc import AsyncIterator

import grpc

from videogen.errors import InvalidRequest
from videogen.protos.videogen.v1 import video_service_pb2 as pb
from videogen.protos.videogen.v1.video_service_pb2_grpc import VideoServiceServicer
from videogen.serving.access import Access
from videogen.serving.grpc import wire
from videogen.serving.grpc.calling import Face, answers, closing, metadata
from videogen.serving.jobs import Caller, Content, VideoJob
from videogen.serving.limits import Limits
from videogen.serving.service import Service

Context = grpc.aio.ServicerContext
CHUNK = 256 * 1024
"""Bytes of a video to a message."""
PAGE, MOST_TO_A_PAGE = 20, 100


class VideoFace(Face, VideoServiceServicer):
    """`stopping`: calls that end now do so because the service does, and nobody's request is cancelled for it."""

    def __init__(self, service: Service, access: Access, limits: Limits) -> None:
        super().__init__(service, access, limits)
        self.stopping = False

    @answers()
    async def Generate(self, request: pb.GenerateRequest, context: Context, caller: Caller) -> None:
        with self.limits.stream(caller):
            await self._generate(request, context, caller)

    async def _generate(self, request: pb.GenerateRequest, context: Context, caller: Caller) -> None:
        submitting = asyncio.ensure_future(self._submit(request, context, caller))
        try:
            job = await asyncio.shield(submitting)
            job = await self._follow(job, context, caller)
        except (asyncio.CancelledError, grpc.aio.InternalError):  # the latter where it was being written to
            if not (request.keep_running or self.stopping):
                self.service.abandon((await submitting).id, caller)
            raise
        if job.status == "completed":
            content = self.service.contents.of(job)
            async for chunk in _chunks(content, 0, content.size):
                await context.write(pb.GenerateResponse(chunk=chunk))
        await context.write(pb.GenerateResponse(finished=wire.job(job)))

    async def _follow(self, job: VideoJob, context: Context, caller: Caller) -> VideoJob:
        """Tells how a job stands until it ended; returns it as it then is."""
        await context.write(pb.GenerateResponse(progress=wire.job(job)))
        async with closing(self.service.watch(job.id, caller, job)) as changes:
            async for changed in changes:
                if not changed.has_ended and changed != job:
                    await context.write(pb.GenerateResponse(progress=wire.job(changed)))
                job = changed
        return job

    @answers()
    async def Submit(self, request: pb.SubmitRequest, context: Context, caller: Caller) -> pb.SubmitResponse:
        return pb.SubmitResponse(job=wire.job(await self._submit(request, context, caller)))

    async def _submit(
        self, request: pb.GenerateRequest | pb.SubmitRequest, context: Context, caller: Caller
    ) -> VideoJob:
        if not request.HasField("spec"):
            raise InvalidRequest("spec", None, 'a VideoSpec, such as {"spec": {"prompt": "a red ring"}}')
        self.limits.check_prompt(request.spec.prompt)
        await self.take(caller, context)
        session = request.session if request.HasField("session") else None
        return await self.service.submit(wire.fields_of(request.spec), caller, _key(request, context), session=session)

    @answers(reads="look")
    async def Get(self, request: pb.GetRequest, context: Context, caller: Caller) -> pb.GetResponse:
        return pb.GetResponse(job=wire.job(await self.service.get(request.id, caller)))

    @answers(reads="look")
    async def List(self, request: pb.ListRequest, context: Context, caller: Caller) -> pb.ListResponse:
        if not 0 <= request.page_size <= MOST_TO_A_PAGE:
            raise InvalidRequest("page_size", request.page_size, f"1 to {MOST_TO_A_PAGE}, or 0 for {PAGE}")
        order = "asc" if request.order == pb.LIST_ORDER_ASCENDING else "desc"
        after, limit = request.page_token or None, request.page_size or PAGE
        try:
            page = await self.service.list(caller, after=after, limit=limit, order=order)
        except InvalidRequest as error:
            field = "page_token" if error.field == "after" else error.field
            raise InvalidRequest(field, error.given, error.allowed) from error
        token = page.data[-1].id if page.has_more and page.data else ""
        return pb.ListResponse(jobs=map(wire.job, page.data), next_page_token=token, cut=page.is_cut)

    @answers(reads="look")
    async def Watch(self, request: pb.WatchRequest, context: Context, caller: Caller) -> None:
        with self.limits.stream(caller):
            async with closing(self.service.watch(request.id, caller)) as changes:
                async for job in changes:
                    await context.write(pb.WatchResponse(job=wire.job(job)))

    @answers(reads="cancel")
    async def Cancel(self, request: pb.CancelRequest, context: Context, caller: Caller) -> pb.CancelResponse:
        return pb.CancelResponse(job=wire.job(await self.service.cancel(request.id, caller)))

    @answers(reads="cancel")
    async def Delete(self, request: pb.DeleteRequest, context: Context, caller: Caller) -> pb.DeleteResponse:
        await self.service.delete(request.id, caller)
        return pb.DeleteResponse()

    @answers()
    async def Change(self, request: pb.ChangeRequest, context: Context, caller: Caller) -> pb.ChangeResponse:
        self.limits.check_prompt(request.prompt)
        await self.take(caller, context)
        job = await self.service.change(request.id, wire.changed_fields(request), caller)
        return pb.ChangeResponse(job=wire.job(job))

    @answers()
    async def Remix(self, request: pb.RemixRequest, context: Context, caller: Caller) -> pb.RemixResponse:
        self.limits.check_prompt(request.prompt)
        await self.take(caller, context)
        return pb.RemixResponse(job=wire.job(await self.service.remix(request.id, request.prompt, caller)))

    @answers(reads="look")
    async def Content(self, request: pb.ContentRequest, context: Context, caller: Caller) -> None:
        content = await self.service.content(request.id, caller)
        start, stop = request.start, request.stop if request.HasField("stop") else content.size
        if not 0 <= start <= content.size:
            raise InvalidRequest("start", start, f"0 to {content.size}")
        if stop < start:
            raise InvalidRequest("stop", stop, f"{start} or more")
        await context.write(pb.ContentResponse(total_size=content.size, digest=content.digest))
        with self.limits.stream(caller):
            async for chunk in _chunks(content, start, min(stop, content.size)):
                await context.write(pb.ContentResponse(chunk=chunk))


async def _chunks(content: Content, start: int, stop: int) -> AsyncIterator[bytes]:
    """Bytes as the client takes them: no more than one piece of the store's waits in memory."""
    async with closing(content.stream(start, stop)) as pieces:
        async for piece in pieces:
            for offset in range(0, len(piece), CHUNK):
                yield piece[offset : offset + CHUNK]


def _key(request: pb.GenerateRequest | pb.SubmitRequest, context: Context) -> str | None:
    """The idempotency key of the request or of its metadata. Raises InvalidRequest if they differ."""
    said, beside = request.idempotency_key or None, metadata(context, "idempotency-key")
    if said and beside and said != beside:
        raise InvalidRequest("idempotency_key", said, f"the same as in the metadata: {beside}")
    return said or beside
