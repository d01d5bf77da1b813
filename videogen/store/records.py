"""What the store hands out: requests, claims, videos, batches and champions as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from videogen.errors import RecordDamaged
from videogen.requests import AcceptedRequest, Lane, Priority
from videogen.store.idempotency import Idempotency

RequestState = Literal["queued", "assigned", "running", "done", "failed", "cancelled", "expired"]
BatchState = Literal["sealing", "sealed", "running", "returning", "returned", "finished"]
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

LIVE_STATES: tuple[RequestState, ...] = ("queued", "assigned", "running")
END_STATES: tuple[RequestState, ...] = ("done", "failed", "cancelled", "expired")
OPEN_BATCH_STATES: tuple[BatchState, ...] = ("sealing", "sealed", "running", "returning")


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """How often things are tried and how long they are kept, in seconds."""

    max_attempts: int = 3
    """Leases that one generation may use up before its requests fail."""
    first_retry: float = 1.0
    """How long a generation rests after its first failed attempt, at most: twice as long after each further one."""
    longest_retry: float = 60.0
    """How long it rests at most, whatever the attempt."""
    max_assignments: int = 10
    """Batches that one request may be put into before it fails."""
    keep_requests: float = 7 * 86_400.0
    """From a request's or a batch's end to its removal."""
    keep_videos: float = 30 * 86_400.0
    """From a video's publication to its expiry."""
    keep_sessions: float = 7 * 86_400.0
    """From the last use of a client's session to its end."""
    tenant_weights: Mapping[str, float] = field(default_factory=dict)
    """How much more than a tenant that is not named one gets of what is answered."""
    share_between_tenants: bool = False
    """May one tenant's request be answered with another's video?"""
    local_cache_bytes: int = 64 * 1024 * 1024
    """Of videos that a process keeps in its memory, in front of the store; 0 for none."""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request as the store knows it. Times are in seconds of the store's clock; `progress` is in [0, 1]."""

    id: str
    state: RequestState
    accepted: AcceptedRequest | None
    """None if the record was damaged."""
    generation: str
    version_digest: str
    label: str
    lane: Lane
    priority: Priority
    source: str
    submitted_at: float
    batch: str | None = None
    assignments: int = 0
    deadline_at: float | None = None
    ended_at: float | None = None
    video: str | None = None
    error: str | None = None
    turn: str = ""
    """Where it stands in its lane: see `Turns`."""
    progress: float = 0.0
    attempts: int = 0
    """Leases that its generation has used up so far, or had when the request ended."""
    joined: bool = False
    """Its video was being made for another when it was submitted."""
    requeued_as: str | None = None
    """The request that took its place, if it failed and was asked again: see `DeadLetters`."""

    @property
    def is_live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def asked(self) -> AcceptedRequest:
        """The accepted request. Raises RecordDamaged if the record was damaged, which one that is live is not."""
        if self.accepted is None:
            raise RecordDamaged(f"request {self.id} is damaged: {self.error}")
        return self.accepted


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to make one generation's video, for as long as its lease is kept alive.

    `request` is one of the requests that wait for it. `token` is checked by everything that the holder writes.
    """

    generation: str
    token: str
    attempt: int
    request: AcceptedRequest
    holder: str
    lease_s: float

    def facts(self) -> dict[str, Json]:
        """What a video's provenance says of the request that it was made for, and of the attempt."""
        accepted = self.request
        changes: list[Json] = [one.model_dump(exclude_none=True) for one in accepted.changes]
        return {
            "request": accepted.request.model_dump(mode="json", exclude={"tenant", "metadata", "lane", "priority"}),
            "request_id": accepted.id,
            "fingerprint": accepted.fingerprint,
            "version_digest": accepted.version_digest,
            "label": accepted.label,
            "seed": accepted.request.seed,
            "attempt": self.attempt,
            **({"changes": changes} if changes else {}),
        }


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of leases that were renewed: `lost` ones belong to others, `unwanted` ones to nobody who waits."""

    kept: tuple[Claim, ...]
    lost: tuple[Claim, ...] = ()
    unwanted: tuple[Claim, ...] = ()


@dataclass(frozen=True, slots=True)
class VideoRecord:
    """A published video: `digest` is the sha256 of its MP4, `size` in bytes. Times in seconds of the store's clock."""

    digest: str
    size: int
    created_at: float
    expires_at: float
    """It is not served from here on."""
    provenance: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class NewRequest:
    """A request to be submitted. With a `holder`, the lease on what it waits for is theirs at once, if it is free.

    The same `idempotency` of one tenant is one request.
    """

    accepted: AcceptedRequest
    source: str = ""
    idempotency: Idempotency | None = None
    holder: str | None = None
    lease_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Receipt:
    """A request that is in the store, and the lease that was taken with it, if any was."""

    record: RequestRecord
    claims: list[Claim]


@dataclass(frozen=True, slots=True)
class Made:
    """What a claim's holder made: the MP4, and how."""

    claim: Claim
    mp4: bytes
    provenance: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Published:
    """A video that is in the store, and the requests that it ended, as they are now."""

    video: VideoRecord
    ended: list[RequestRecord]


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """Requests of one model version that a run answers together. `attempt` counts how often it was sealed."""

    id: str
    state: BatchState
    request_ids: tuple[str, ...]
    version_digest: str
    label: str
    attempt: int
    created_at: float
    time_limit_s: float
    holder: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ServedEngine:
    """The engine that serves one target, and the digest of the report on which it passed its gates.

    `batch_size`: requests to a call at which it gave the most videos per second when it was warmed up.
    `seconds_per_video`: of the whole device, at that size, None where it was not measured.
    """

    engine_key: str
    precision: str
    gate_report: str
    batch_size: int = 1
    seconds_per_video: float | None = None


@dataclass(frozen=True, slots=True)
class Champion:
    """The version of a model that is served. `generation` counts the pointer's moves, 0 before the first.

    `previous` is what a rollback brings back, without its own previous one.
    """

    version_digest: str
    label: str
    targets: Mapping[str, ServedEngine] = field(default_factory=dict)
    previous: "Champion | None" = None
    generation: int = 0


@dataclass(frozen=True, slots=True)
class ChampionMove:
    """One entry of a pointer's history."""

    champion: Champion
    action: Literal["promote", "rollback"]
    at: float
