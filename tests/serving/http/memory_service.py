"""The service's core over a dict: what a face asks of it, without a store or an engine. A step takes `step_s`."""

import asyncio
import hashlib
import time
from dataclasses import replace

import numpy as np

from videogen.errors import InvalidRequest, RecordNotFound
from videogen.media.mp4 import encode_mp4
from videogen.models.spec import ModelSpec
from videogen.requests import accept, new_id, parse_request
from videogen.serving.jobs import Content, JobError, ModelInfo, Page, Usage, VideoJob

SPEC = ModelSpec("videogen-tiny")
DIGEST = "ab" * 32


class MemoryService:
    live, ready, reasons, warnings = True, True, [], []

    def __init__(self, step_s=0.005):
        self.step_s, self.jobs, self.owners, self.keys, self.videos, self.tasks = step_s, {}, {}, {}, {}, set()
        self.changed = asyncio.Condition()

    async def models(self, caller):
        return [ModelInfo("videogen-tiny", "videogen-tiny@1", DIGEST, True, False, 1.0, SPEC)]

    async def submit(self, fields, caller, idempotency_key=None):
        wish = parse_request({**fields, "tenant": caller.tenant})
        if wish.model.partition("@")[0] != "videogen-tiny":
            raise InvalidRequest("model", wish.model, "videogen-tiny")
        if idempotency_key in self.keys:
            return self.jobs[self.keys[idempotency_key]]
        accepted = accept(wish, SPEC, DIGEST)
        job = VideoJob(
            new_id(), "queued", "queued", accepted.request, "videogen-tiny", "videogen-tiny@1", DIGEST, 0.0, time.time()
        )
        if idempotency_key:
            self.keys[idempotency_key] = job.id
        self.owners[job.id], self.jobs[job.id] = caller.tenant, replace(job, queue_position=0, eta_seconds=0.1)
        task = asyncio.ensure_future(self._make(job.id))
        self.tasks.add(task)
        return self.jobs[job.id]

    async def _make(self, job_id):
        steps = self.jobs[job_id].request.num_inference_steps
        for step in range(steps):
            await asyncio.sleep(self.step_s)
            if self.jobs[job_id].has_ended:
                return
            await self._set(job_id, status="in_progress", state="running", progress=step / steps, queue_position=None)
        seed = self.jobs[job_id].request.seed
        frames = np.random.default_rng(seed).integers(0, 255, (16, 64, 64, 3), np.uint8)
        self.videos[job_id] = encode_mp4(frames, 8)
        usage = Usage(0.1, None, "miss")
        await self._set(job_id, status="completed", state="done", progress=1.0, completed_at=time.time(), usage=usage)

    async def _set(self, job_id, **changes):
        async with self.changed:
            if job_id in self.jobs:
                self.jobs[job_id] = replace(self.jobs[job_id], **changes)
            self.changed.notify_all()

    async def get(self, job_id, caller):
        if self.owners.get(job_id) != caller.tenant:
            raise RecordNotFound(f"there is no video {job_id}")
        return self.jobs[job_id]

    async def list(self, caller, *, after=None, limit=20, order="desc"):
        ids = sorted((i for i, owner in self.owners.items() if owner == caller.tenant), reverse=order == "desc")
        start = ids.index(after) + 1 if after in ids else 0
        return Page(tuple(self.jobs[i] for i in ids[start : start + limit]), len(ids) > start + limit)

    async def cancel(self, job_id, caller):
        if not (await self.get(job_id, caller)).has_ended:
            error = JobError("cancelled", "cancelled by its owner")
            await self._set(job_id, status="failed", state="cancelled", error=error, completed_at=time.time())
        return self.jobs[job_id]

    async def delete(self, job_id, caller):
        await self.cancel(job_id, caller)
        del self.owners[job_id], self.jobs[job_id]

    async def remix(self, job_id, prompt, caller):
        kept = (await self.get(job_id, caller)).request.model_dump(exclude_none=True)
        job = await self.submit({**kept, "prompt": prompt}, caller)
        self.jobs[job.id] = replace(job, remixed_from=job_id)
        return self.jobs[job.id]

    async def watch(self, job_id, caller, last=None, *, with_place=True):
        seen = last
        while seen is None or not seen.has_ended:
            async with self.changed:
                await self.changed.wait_for(lambda: self.jobs[job_id] is not seen)  # noqa: B023
            seen = self.jobs[job_id]
            yield seen

    async def content(self, job_id, caller):
        return self.content_of(await self.get(job_id, caller))

    def content_of(self, job):
        mp4 = self.videos[job.id]

        async def read(start, stop):
            for first in range(start, stop, 1000):
                yield mp4[first : min(first + 1000, stop)]

        return Content(hashlib.sha256(mp4).hexdigest(), len(mp4), read)
