"""How a job stands, now and until its end: what this replica knows of it beside what the store does."""

import asyncio
import contextlib
import dataclasses
import math
import time
from collections.abc import AsyncGenerator

from videogen.serving.jobs import Caller, VideoJob
from videogen.serving.looking import Looking
from videogen.serving.making.maker import Maker
from videogen.serving.store_calls import Call, patiently

POLL_S = (0.1, 1.0)
"""Between looks at a job that another replica makes, growing."""
HELD_S = 3.0
"""Between looks at a job that is made here, whose request may be cancelled elsewhere."""
PATIENCE_S = 30.0
"""For how long the store may be away or busy while a job is followed."""


class Watching:
    """One replica's. What names a job raises RecordNotFound for one that is not there or not the caller's."""

    def __init__(self, maker: Maker, looking: Looking, call: Call) -> None:
        self.maker, self.work, self.looking, self.call = maker, maker.work, looking, call

    async def get(self, job_id: str, caller: Caller) -> VideoJob:
        """The job as it stands."""
        return await self._get(job_id, caller, waits=self.work.held(job_id) is None)

    async def _get(self, job_id: str, caller: Caller, waits: bool) -> VideoJob:
        looking = self.looking
        return self.told(await self.call(lambda: looking.job(looking.own(job_id, caller), waits=waits)))

    def told(self, job: VideoJob) -> VideoJob:
        """With the progress that this replica knows of, of which the store hears seldom."""
        held = self.work.held(job.id)
        if held is None or job.has_ended or held.progress <= job.progress:
            return job
        return dataclasses.replace(
            job, status="in_progress", state="running", progress=held.progress, queue_position=None, eta_seconds=None
        )

    async def watch(
        self,
        job_id: str,
        caller: Caller,
        last: VideoJob | None = None,
        *,
        with_place: bool = True,
        with_progress: bool = True,
    ) -> AsyncGenerator[VideoJob]:
        """The job now and at every change, until its end; also one that another replica makes.

        With `last`, what the caller knows of it, only from the next change on. Without its place in the queue, which
        moves all the time, a job that waits costs little, and without its progress one that is made. Once it is
        followed, the store may be away for `PATIENCE_S`.
        """
        held, looked = self.work.held(job_id), -math.inf
        if last is not None and held is not None:
            generation, looked = held.claim.generation, time.monotonic()
        else:
            patience = 0.0 if last is None else PATIENCE_S
            own = await patiently(lambda: self.call(lambda: self.looking.own(job_id, caller)), patience)
            generation = own.generation
        pause = POLL_S[0]
        with self.maker.changes.of(generation, job_id, progress=with_progress) as news:
            while last is None or not last.has_ended:
                # Progress of what is made here is known here; the rest is in the store, as is what others do to it.
                is_known = last is not None and self.work.held(job_id) is not None and not news.in_store
                if news.end is not None:
                    job = self.looking.ended(*news.end)
                elif is_known and time.monotonic() - looked < HELD_S:
                    job = self.told(last)
                    news.clear()
                else:
                    looked = time.monotonic()
                    news.clear()
                    waits = with_place and self.work.held(job_id) is None

                    async def look(waits: bool = waits) -> VideoJob:
                        return self.looking.ended(*news.end) if news.end else await self._get(job_id, caller, waits)

                    job = await patiently(look, 0.0 if last is None else PATIENCE_S)
                if last is not None and not job.has_ended:
                    job = dataclasses.replace(job, progress=max(job.progress, last.progress))
                if job != last:
                    yield job
                last = job
                if job.has_ended:
                    return
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), pause if self.work.held(job_id) is None else HELD_S)
                pause = min(1.5 * pause, POLL_S[1])
