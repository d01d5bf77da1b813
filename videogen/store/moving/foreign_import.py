"""Takes in what another service kept in a Redis: videos with their requests, requests that wait, sessions.

Each request gets an id that follows from theirs, so whatever is there already is left alone, and an import that was
broken off is started again. What has no place in ours is counted and named.
"""

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

from videogen.errors import (
    ArtifactError,
    InvalidRequest,
    RecordDamaged,
    RecordNotFound,
    RegistryError,
    StoreUnavailable,
)
from videogen.models.spec import ModelSpec
from videogen.requests import FILLED, AcceptedRequest, fingerprint, parse_request
from videogen.store.generations import Generations
from videogen.store.moving.foreign_redis import ForeignRedis, Unmapped, part_of
from videogen.store.moving.migration import MOST_NAMED, TTL_SLACK_S, Progress, Tally
from videogen.store.records import Json
from videogen.store.sessions import Session
from videogen.store.store import Store

LEASE_S = 60.0
HOLDER = "videogen store migrate"
Accept = Callable[[dict[str, Any]], AcceptedRequest]
Outcome = Literal["copied", "same", "different"]


class ForeignImport:
    """`accept` checks a request for one of our models, as one that a user sends. `name` is the layout's."""

    def __init__(self, source: ForeignRedis, store: Store, accept: Accept, name: str) -> None:
        self.source, self.store, self.accept, self.name = source, store, accept, name
        self.layout, self.generations = source.layout, Generations(store.records, store.limits)

    def run(self, on_progress: Progress = lambda tally: None) -> Tally:
        """Takes in what is not there yet. In the tally, `damaged` are those that have no place here, each with why."""
        return self._walk(self._take_video, self._take_job, self._take_session, on_progress)

    def verify(self, on_progress: Progress = lambda tally: None) -> Tally:
        """Compares everything with what was taken in: videos by their bytes; changes nothing."""
        return self._walk(self._check_video, self._check_job, self._check_session, on_progress)

    def _walk(
        self,
        video: Callable[[str], Outcome],
        job: Callable[[str], Outcome],
        session: Callable[[str, str], Outcome],
        on_progress: Progress,
    ) -> Tally:
        tally, jobs = Tally(), 0
        for key in self.source.all_keys():
            part, found = part_of(self.layout, key)
            jobs += part == "job"
            if part == "video":
                tally = _counted(tally, "video", key, lambda found=found: video(found))
            elif part == "session":
                tally = _counted(tally, "session", key, lambda key=key, found=found: session(key, found))
            elif part == "request" and not self.source.has_video(found):
                tally = _of_kind(tally, "request without a video")
            elif part == "ignored":
                tally = _of_kind(tally, "ignored key")
            elif part == "unknown":
                tally = _unmapped(replace(tally, seen=tally.seen + 1), "unknown key", key, "no pattern of the layout")
            on_progress(tally)
        waiting = 0
        for job_id in self.source.waiting():
            waiting += 1
            tally = _counted(tally, "waiting request", job_id, lambda job_id=job_id: job(job_id))
            on_progress(tally)
        for _ in range(jobs - waiting):
            tally = _of_kind(tally, "job that does not wait")
        return tally

    # Videos

    def _take_video(self, video_hash: str) -> Outcome:
        accepted = self._made(video_hash)
        if self._has(accepted):
            return "same"
        self._publish(accepted, self.source.video(video_hash), video_hash)
        self.store.submit(accepted, source=self.name)
        return "copied"

    def _check_video(self, video_hash: str) -> Outcome:
        try:
            request = self.store.request(self._made(video_hash).id)
            found = self.store.read_video(request.video or "")
        except (RecordNotFound, RecordDamaged):
            return "different"
        theirs = hashlib.sha256(self.source.video(video_hash)).digest()
        return "same" if hashlib.sha256(found).digest() == theirs else "different"

    def _publish(self, accepted: AcceptedRequest, mp4: bytes, video_hash: str) -> None:
        """Before its request is sent, so that nobody makes the video again."""
        key = self.generations.key(accepted)
        self.generations.free_from(HOLDER, [key])  # from an import that was broken off
        state = self.generations.read_many([key])[0]
        if state.state == "done" and self._is_there(state.video):
            return
        if state.state in ("done", "failed"):
            self.generations.reopen(state)
            state = self.generations.read_many([key])[0]
        claims = self.generations.claim([(state, accepted)], HOLDER, LEASE_S)
        if not claims:
            raise Unmapped("the same video is being made here just now: start again later")
        provenance: dict[str, Json] = {"imported": self.name, "hash": video_hash, "model": accepted.request.model}
        self.store.publish(claims[0], mp4, provenance)

    def _is_there(self, digest: str | None) -> bool:
        try:
            self.store.video(digest or "")
        except (RecordNotFound, RecordDamaged):
            return False
        return True

    def _made(self, video_hash: str) -> AcceptedRequest:
        """The request of a finished video: of the model of ours that the layout says makes the same, else of theirs."""
        fields = self.source.request(video_hash)
        ours = self._ours(fields)
        theirs = str(ours.get("model", "unknown"))
        if theirs in self.layout.models:
            return self._accepted(ours, f"video {video_hash}", fields)
        return self._with_id(self._of_their_model(ours, theirs), f"video {video_hash}", fields)

    def _of_their_model(self, ours: dict[str, Any], model: str) -> AcceptedRequest:
        """As it was made there, unchecked. No version of ours has this digest, so it answers no request to ours."""
        spec = ModelSpec(model)
        try:
            request = parse_request({"seed": 0} | ours | {"model": model})
        except InvalidRequest as error:
            raise Unmapped(str(error)) from error
        open_fields = {name: getattr(spec, name) for name in FILLED if getattr(request, name) is None}
        filled, digest = (
            request.model_copy(update=open_fields),
            hashlib.sha256(f"{self.name} {model}".encode()).hexdigest(),
        )
        return AcceptedRequest(
            id="", request=filled, version_digest=digest, label=f"{model} ({self.name})",
            fingerprint=fingerprint(filled, spec, digest),
        )  # fmt: skip

    # Requests that wait

    def _take_job(self, job_id: str) -> Outcome:
        accepted = self._waiting(job_id)
        if self._has(accepted):
            return "same"
        self.store.submit(accepted, source=self.name)
        return "copied"

    def _check_job(self, job_id: str) -> Outcome:
        return "same" if self._has(self._waiting(job_id)) else "different"

    def _waiting(self, job_id: str) -> AcceptedRequest:
        assert self.layout.queue is not None
        key, fields = self.source.job(job_id)
        return self._accepted({"lane": self.layout.queue.lane} | self._ours(fields), key, fields)

    def _accepted(self, ours: dict[str, Any], key: str, fields: Mapping[str, Any]) -> AcceptedRequest:
        """A request to one of our models; without a seed of its own, one that is the same every time."""
        seed = int.from_bytes(hashlib.sha256(_text(key, fields)).digest()[:4], "big")
        model = {"model": self.layout.models.get(str(ours["model"]), ours["model"])} if "model" in ours else {}
        try:
            return self._with_id(self.accept({"seed": seed} | ours | model), key, fields)
        except (InvalidRequest, RecordNotFound, ArtifactError, RegistryError) as error:
            raise Unmapped(str(error)) from error

    def _ours(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of a request under our names. Raises Unmapped for one that has none."""
        unknown = sorted(fields.keys() - self.layout.fields.keys())
        if unknown:
            raise Unmapped(f"{', '.join(unknown)}: no such field in [fields] of the layout")
        return {self.layout.fields[name]: value for name, value in fields.items() if value is not None}

    def _with_id(self, accepted: AcceptedRequest, key: str, fields: Mapping[str, Any]) -> AcceptedRequest:
        own = uuid.uuid5(uuid.NAMESPACE_URL, _text(f"{self.name} {key}", fields).decode())
        return accepted.model_copy(update={"id": str(own)})

    def _has(self, accepted: AcceptedRequest) -> bool:
        try:
            self.store.request(accepted.id)
        except RecordNotFound:
            return False
        return True

    # Sessions

    def _take_session(self, key: str, session_id: str) -> Outcome:
        session, left = self._session(key, session_id)
        try:
            return "copied" if self.store.sessions.bring_in(session, left) else "same"
        except (InvalidRequest, RecordNotFound) as error:
            raise Unmapped(str(error)) from error

    def _check_session(self, key: str, session_id: str) -> Outcome:
        session, left = self._session(key, session_id)
        record = self.store.records.read("session", f"{session.tenant}/{session_id}", aged=True)
        if record is None or record.bins.get("state") != "open" or record.expires_in is None:
            return "different"
        same = all(json.loads(record.text(name)) == getattr(session, name) for name in ("defaults", "edit_state"))
        kept = self.store.sessions.keep_s if left is None else left
        return "same" if same and abs(record.expires_in - kept) <= TTL_SLACK_S else "different"

    def _session(self, key: str, session_id: str) -> tuple[Session, float | None]:
        names = self.layout.sessions
        assert names is not None
        fields, left = self.source.session(key)
        known = {names.tenant, names.defaults, names.edit_state, names.videos, *names.ignore}
        if unknown := sorted(fields.keys() - known):
            raise Unmapped(f"{', '.join(unknown)}: no such field in [sessions] of the layout")
        defaults, hashes = fields.get(names.defaults) or {}, fields.get(names.videos) or []
        if not isinstance(defaults, dict) or not isinstance(hashes, list):
            raise Unmapped(f"{names.defaults} is no object, or {names.videos} no list")
        videos = tuple(self._digests(hashes))
        tenant = str(fields.get(names.tenant) or "default")
        return Session(tenant, session_id, 1, self._ours(defaults), fields.get(names.edit_state), videos), left

    def _digests(self, hashes: list[Any]) -> Iterator[str]:
        """Of those videos that are still there; hashes of others lead nowhere."""
        for video_hash in hashes if self.layout.videos is not None else []:
            if self.source.has_video(str(video_hash)):
                yield hashlib.sha256(self.source.video(str(video_hash))).hexdigest()


def _text(key: str, fields: Mapping[str, Any]) -> bytes:
    return f"{key} {json.dumps(fields, sort_keys=True)}".encode()


def _counted(tally: Tally, kind: str, name: str, work: Callable[[], Outcome]) -> Tally:
    """With one more thing of theirs seen, and what became of it."""
    tally = replace(tally, seen=tally.seen + 1)
    try:
        outcome = work()
    except StoreUnavailable:
        raise
    except Unmapped as error:
        return _unmapped(tally, kind, name, str(error))
    tally = _of_kind(tally, kind)
    if outcome == "different":
        return replace(tally, different=(*tally.different, f"{kind} {name}")[:MOST_NAMED])
    return replace(tally, copied=tally.copied + (outcome == "copied"), same=tally.same + (outcome == "same"))


def _unmapped(tally: Tally, kind: str, name: str, why: str) -> Tally:
    tally = _of_kind(tally, f"{kind} without a place")
    return replace(tally, damaged=(*tally.damaged, f"{kind} {name}: {why}")[:MOST_NAMED])


def _of_kind(tally: Tally, kind: str) -> Tally:
    return replace(tally, by_kind={**tally.by_kind, kind: tally.by_kind.get(kind, 0) + 1})
