"""The service's client for programs without an event loop."""

import builtins
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from types import EllipsisType
from typing import Any, TypeVar

import grpc

from videogen.client import channels, verbs, wire
from videogen.client.errors import ProtocolError, Unavailable, VideoFailed, from_rpc
from videogen.client.results import Claim, Job, Json, Model, News, OnProgress, Page, Session, Video
from videogen.client.verbs import Verb

T = TypeVar("T")


class Client:
    """Calls the service at `address`, a host and a port. `tls` where something in front of it speaks TLS.

    `timeout_s` bounds every call that has no time limit of its own. Every method raises a ServiceError, of
    `videogen.client.errors`. A call that finds nobody is repeated a few times where that cannot do harm.
    """

    def __init__(
        self,
        address: str = channels.DEFAULT,
        *,
        api_key: str | None = None,
        tls: bool = False,
        timeout_s: float = channels.TIMEOUT_S,
    ) -> None:
        self._channel = channels.open_channel(address, tls)
        self._methods, self._metadata, self._timeout_s = (
            verbs.methods(self._channel),
            channels.bearer(api_key),
            timeout_s,
        )

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def generate(
        self,
        prompt: str,
        *,
        on_progress: OnProgress | None = None,
        idempotency_key: str | None = None,
        timeout_s: float | None = None,
        session: str | None = None,
        **fields: Any,
    ) -> Video:
        """Makes a video and waits for it. `fields` are those of `VideoSpec` in videogen.v1, such as `seed`.

        What they leave out is as the defaults of `session` say, the id of one, which then lists the job.

        Leaving early (an exception in `on_progress`, Ctrl-C, `timeout_s`) cancels the request. One whose connection
        broke is asked for again under the same idempotency key. Raises VideoFailed if there is no video.
        """
        ends = None if timeout_s is None else time.monotonic() + timeout_s
        key, attempt = idempotency_key or verbs.key(), 0
        while True:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            try:
                return self._generate(verbs.generate(prompt, fields, key, session), on_progress, left)
            except (Unavailable, VideoFailed) as error:
                key = channels.next_key(error, key, attempt, own=idempotency_key is None)
            time.sleep(verbs.pause_s(attempt))
            attempt += 1

    def _generate(self, verb: Verb[Any], on_progress: OnProgress | None, timeout_s: float | None) -> Video:
        chunks: list[bytes] = []
        with closing(self._stream(verb, timeout_s)) as answers:
            for answer in answers:
                match answer.WhichOneof("part"):
                    case "progress" if on_progress is not None:
                        on_progress(wire.job(answer.progress))
                    case "chunk":
                        chunks.append(answer.chunk)
                    case "finished":
                        return wire.video(answer.finished, chunks)
        raise ProtocolError("the stream ended before the video did")

    def submit(
        self, prompt: str, *, idempotency_key: str | None = None, session: str | None = None, **fields: Any
    ) -> Job:
        """Records a request and returns at once. `session` and `fields` as for `generate`."""
        return self._call(verbs.submit(prompt, fields, idempotency_key or verbs.key(), session))

    def get(self, job_id: str) -> Job:
        return self._call(verbs.get(job_id))

    def list(self, *, limit: int = 20, page_token: str | None = None, order: str = "desc") -> Page:
        """A page of one's own jobs, by time of acceptance: "desc" for newest first, or "asc"."""
        return self._call(verbs.list_jobs(limit, page_token, order))

    def watch(self, job_id: str) -> Iterator[Job]:
        """The job now, at every change, and at its end."""
        return self._stream(verbs.watch(job_id), None)

    def cancel(self, job_id: str) -> Job:
        return self._call(verbs.cancel(job_id))

    def delete(self, job_id: str) -> None:
        self._call(verbs.delete(job_id))

    def change(self, job_id: str, **fields: Any) -> Job:
        """Changes a job that has not ended: `prompt`, `negative_prompt`, `guidance_scale`, `priority`, `deadline`.

        The first three hold from its next denoising step on; the job's `changes` tell from which.
        """
        return self._call(verbs.change(job_id, fields))

    def remix(self, job_id: str, prompt: str) -> Job:
        """Asks for another video with the seed and parameters of a finished one, but another prompt."""
        return self._call(verbs.remix(job_id, prompt))

    def content(self, job_id: str, *, start: int = 0, stop: int | None = None) -> bytes:
        """The MP4 of a finished job, or its bytes from `start` to before `stop`."""
        return b"".join(self.iter_content(job_id, start=start, stop=stop))

    def iter_content(self, job_id: str, *, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The same in pieces, read from the service as they are taken."""
        return self._stream(verbs.content(job_id, start, stop), None)

    def is_serving(self) -> bool:
        """Does it take requests? For want of an answer it raises, and asks nobody twice."""
        return self._call(verbs.is_serving())

    def models(self) -> builtins.list[Model]:
        return self._call(verbs.models())

    def create_session(self, defaults: Mapping[str, Json] | None = None) -> Session:
        return self._call(verbs.create_session(defaults or {}))

    def get_session(self, session_id: str) -> Session:
        return self._call(verbs.get_session(session_id))

    def update_session(
        self,
        session_id: str,
        *,
        expected_revision: int | None = None,
        defaults: Mapping[str, Json] | None = None,
        edit_state: Json | EllipsisType = ...,
    ) -> Session:
        """Sets the named defaults (None takes one away) and, unless it is left as `...`, the whole edit state."""
        return self._call(verbs.update_session(session_id, expected_revision, defaults, edit_state))

    def delete_session(self, session_id: str) -> None:
        self._call(verbs.delete_session(session_id))

    def swap(self, version: str = "") -> Mapping[str, Any]:
        """Serves another model version, by default the champion, once it is loaded and warm. For admins, as below."""
        return self._call(verbs.swap(version), channels.ADMIN_TIMEOUT_S)

    def rollback(self) -> Mapping[str, Any]:
        return self._call(verbs.rollback(), channels.ADMIN_TIMEOUT_S)

    def drain(self) -> None:
        """The service takes no more requests; what was accepted is finished, here or by another replica."""
        self._call(verbs.drain())

    def reload(self) -> Mapping[str, Any]:
        return self._call(verbs.reload(), channels.ADMIN_TIMEOUT_S)

    def stats(self) -> Mapping[str, Any]:
        return self._call(verbs.stats())

    def execute(self, claims: Iterable[Claim]) -> Iterator[News]:
        """Makes and publishes the videos of leases that the caller holds and keeps alive."""
        return self._stream(verbs.execute(claims), None)

    def _call(self, verb: Verb[T], timeout_s: float | None = None) -> T:
        attempt = 0
        while True:
            try:
                answer = self._methods[verb.method](
                    verb.request, timeout=timeout_s or self._timeout_s, metadata=self._metadata
                )
                return verb.read(answer)
            except grpc.RpcError as error:
                channels.raise_unless_repeatable(from_rpc(error), verb, attempt)
            time.sleep(verbs.pause_s(attempt))
            attempt += 1

    def _stream(self, verb: Verb[T], timeout_s: float | None) -> Generator[T]:
        call = self._methods[verb.method](verb.request, timeout=timeout_s, metadata=self._metadata)
        try:
            for answer in call:
                yield verb.read(answer)
        except grpc.RpcError as error:
            raise from_rpc(error) from error
        finally:
            call.cancel()
