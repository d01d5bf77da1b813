"""A core of the service that lives in memory: jobs that take as many steps as they ask for, of `step_s` each."""

import asyncio
import dataclasses
import hashlib
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from types import EllipsisType
from typing import Any

from videogen.client.results import Claim, Executed, ExecuteFailed, Executing, News
from videogen.errors import InvalidRequest, Overloaded, RecordNotFound, StoreConflict, StoreUnavailable
from videogen.models.spec import ModelSpec
from videogen.requests import accept, parse_request
from videogen.serving.jobs import Caller, Content, JobError, ModelInfo, Page, Usage, VideoJob
from videogen.store.records import VideoRecord
from videogen.store.sessions import Session

SPEC = ModelSpec("videogen-tiny")


class MemoryCore:
    def __init__(self, step_s: float = 0.01, video: bytes = b"m" * 700_000) -> None:
        self.step_s, self.video, self.ready = step_s, video, True
        self.jobs: dict[str, VideoJob] = {}
        self.tenants: dict[str, str] = {}
        self.keys: dict[str, tuple[Mapping[str, Any], str]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.sessions: dict[str, Session] = {}
        self.refuse_with: Exception | None = None
        self.read = self.submits = self.watchers = 0
        self.stopped: list[str] = []

    async def submit(self, fields: Mapping[str, Any], caller: Caller, idempotency_key: str | None = None) -> VideoJob:
        self.submits += 1
        if self.refuse_with is not None:
            raise self.refuse_with
        if idempotency_key in self.keys:
            body, job_id = self.keys[idempotency_key]
            if body != fields:
                raise InvalidRequest("idempotency_key", idempotency_key, "a key not sent with another request before")
            return self.jobs[job_id]
        accepted = accept(parse_request({**fields, "tenant": caller.tenant}), SPEC, "d" * 64, label="videogen-tiny@1")
        now = time.time()
        self.jobs[accepted.id] = job = VideoJob(
            accepted.id, "queued", "queued", accepted.request, "videogen-tiny", accepted.label, "d" * 64, 0.0, now
        )
        job = self.jobs[job.id] = dataclasses.replace(job, queue_position=0, eta_seconds=1.5)
        self.tenants[job.id] = caller.tenant
        if idempotency_key:
            self.keys[idempotency_key] = fields, job.id
        self.tasks[job.id] = asyncio.ensure_future(self._make(job.id))
        return job

    async def _make(self, job_id: str) -> None:
        steps = self.jobs[job_id].request.num_inference_steps or 1
        for step in range(steps):
            await asyncio.sleep(self.step_s)
            self._change(job_id, status="in_progress", state="running", progress=step / steps, queue_position=None)
        digest = hashlib.sha256(self.video).hexdigest()
        now = time.time()
        video = VideoRecord(digest, len(self.video), now, now + 60, {"precision": "fp32", "seed": 3, "per": [0.5]})
        usage = Usage(0.25, None, "miss")
        self._change(job_id, status="completed", state="done", progress=1.0, video=video, usage=usage, completed_at=now)

    def _change(self, job_id: str, **values: Any) -> None:
        if job_id in self.jobs:
            self.jobs[job_id] = dataclasses.replace(self.jobs[job_id], **values)

    async def get(self, job_id: str, caller: Caller) -> VideoJob:
        if self.tenants.get(job_id) != caller.tenant:
            raise RecordNotFound(f"there is no request {job_id[:64]!r}")
        return self.jobs[job_id]

    async def list(
        self, caller: Caller, *, after: str | None = None, limit: int = 20, order: str = "desc"
    ) -> Page[VideoJob]:
        found = [job for job in self.jobs.values() if self.tenants[job.id] == caller.tenant]
        found = found[::-1] if order == "desc" else found
        ids = [job.id for job in found]
        if after is not None and after not in ids:
            raise RecordNotFound(f"there is no request {after[:64]!r}")
        found = found[ids.index(after) + 1 :] if after else found
        return Page(tuple(found[:limit]), len(found) > limit)

    async def cancel(self, job_id: str, caller: Caller) -> VideoJob:
        job = await self.get(job_id, caller)
        if not job.has_ended:
            self.tasks[job_id].cancel()
            self.stopped.append(job_id)
            error = JobError("cancelled", "it was cancelled")
            self._change(job_id, status="failed", state="cancelled", error=error)
        return self.jobs[job_id]

    async def delete(self, job_id: str, caller: Caller) -> None:
        await self.cancel(job_id, caller)
        del self.jobs[job_id], self.tenants[job_id]

    async def remix(self, job_id: str, prompt: str, caller: Caller) -> VideoJob:
        old = await self.get(job_id, caller)
        fields = old.request.model_dump(exclude={"tenant", "prompt"}) | {"prompt": prompt}
        job = await self.submit(fields, caller)
        self._change(job.id, remixed_from=job_id)
        return self.jobs[job.id]

    async def watch(self, job_id: str, caller: Caller, last: VideoJob | None = None) -> AsyncGenerator[VideoJob]:
        told = last
        self.watchers += 1
        try:
            while True:
                job = await self.get(job_id, caller)
                if job != told:
                    yield job
                    told = job
                if job.has_ended:
                    return
                await asyncio.sleep(self.step_s / 2)
        finally:
            self.watchers -= 1

    async def content(self, job_id: str, caller: Caller) -> Content:
        return self.content_of(await self.get(job_id, caller))

    def content_of(self, job: VideoJob) -> Content:
        if job.video is None:
            raise StoreConflict(f"request {job.id} is {job.state}: it has no content")

        async def read(start: int, stop: int) -> AsyncGenerator[bytes]:
            for at in range(start, stop, 300_000):
                piece = self.video[at : min(stop, at + 300_000)]
                self.read += len(piece)
                yield piece

        return Content(job.video.digest, len(self.video), read)

    async def models(self, caller: Caller) -> Sequence[ModelInfo]:
        info = ModelInfo(
            "videogen-tiny", "videogen-tiny@1", "d" * 64, champion=True, ungated=False, created_at=5.0, spec=SPEC
        )
        return [info]

    async def create_session(self, caller: Caller, defaults: Mapping[str, Any]) -> Session:
        made = Session(caller.tenant, f"s{len(self.sessions)}", 1, defaults)
        self.sessions[made.id] = made
        return made

    async def get_session(self, session_id: str, caller: Caller) -> Session:
        if session_id not in self.sessions:
            raise RecordNotFound(f"there is no session {session_id[:64]!r}")
        return self.sessions[session_id]

    async def update_session(
        self,
        session_id: str,
        caller: Caller,
        *,
        expected_revision: int | None = None,
        defaults: Mapping[str, Any] | None = None,
        edit_state: Any | EllipsisType = ...,
    ) -> Session:
        now = await self.get_session(session_id, caller)
        if expected_revision not in (None, now.revision):
            raise StoreConflict(f"session {session_id} stands at revision {now.revision}, not at {expected_revision}")
        merged = {name: value for name, value in {**now.defaults, **(defaults or {})}.items() if value is not None}
        state = now.edit_state if edit_state is ... else edit_state
        self.sessions[session_id] = dataclasses.replace(
            now, revision=now.revision + 1, defaults=merged, edit_state=state
        )
        return self.sessions[session_id]

    async def delete_session(self, session_id: str, caller: Caller) -> None:
        self.sessions.pop(session_id, None)

    async def swap(self, label: str) -> Mapping[str, Any]:
        return {"before": "videogen-tiny@1", "now": label, "gap_s": 0.5}

    async def rollback(self) -> Mapping[str, Any]:
        return {"now": "videogen-tiny@1"}

    async def drain(self) -> None:
        self.ready = False

    async def reload(self) -> Mapping[str, Any]:
        raise StoreUnavailable("the store cannot be reached")

    async def stats(self) -> Mapping[str, Any]:
        return {"waiting": 3, "device": {"busy": 0.75}}

    async def execute(self, claims: Sequence[Claim]) -> AsyncGenerator[News]:
        try:
            for claim in claims:
                yield Executing(claim.generation, 0.5)
                await asyncio.sleep(self.step_s)
                failed = ExecuteFailed(claim.generation, "generation_failed", "no luck", retry=True)
                yield failed if claim.token == "bad" else Executed(claim.generation, claim.token * 2)
        finally:
            self.stopped.append("execute")

    async def close(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)


OVERLOADED = Overloaded("too much waits", 2.5, 9.0)
