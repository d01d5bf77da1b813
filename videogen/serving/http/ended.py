"""Waiting for a job's end, for as long as its client waits too."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import Message

from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.service import Service


async def ended(
    service: Service, job: VideoJob, caller: Caller, receive: Callable[[], Awaitable[Message]] | None
) -> VideoJob:
    """The job when it has ended. Cancels it, and raises ClientDisconnect, if `receive` tells that the client left."""
    if job.has_ended:
        return job
    waiting = asyncio.ensure_future(_last(service, job, caller))
    leaving = asyncio.ensure_future(_left(receive)) if receive else None
    both = {waiting} if leaving is None else {waiting, leaving}
    try:
        done, _ = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if waiting in done:
            return waiting.result()
        service.abandon(job.id, caller)
        raise ClientDisconnect
    finally:
        for task in both:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _last(service: Service, job: VideoJob, caller: Caller) -> VideoJob:
    async for seen in service.watch(job.id, caller, job, with_place=False, with_progress=False):
        job = seen
    return job


async def _left(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
