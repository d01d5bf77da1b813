"""What the service and its engine process tell each other: JSON in length-prefixed frames, a video behind it."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from pydantic import TypeAdapter, ValidationError

from videogen.errors import EngineError
from videogen.requests import UNGATED, AcceptedRequest
from videogen.scheduling.job import Priority

HEADER = struct.Struct(">IQ")
"""Bytes of the JSON head, bytes of the payload."""
MAX_HEAD = 8 * 2**20
MAX_PAYLOAD = 2**30
_ALLOWED = f"allowed: {MAX_HEAD:,} + {MAX_PAYLOAD:,}"

FailureCode = Literal["invalid_request", "generation_failed", "out_of_memory", "cancelled"]


class MalformedMessage(EngineError):
    """A frame is larger than allowed, or holds no message that is known."""


@dataclass(frozen=True, slots=True)
class Synthetic:
    """A device without networks: a call on B takes `fixed_s` + `each_s`·B seconds, its videos are cached samples."""

    fixed_s: float = 0.040
    each_s: float = 0.005
    rest_s: float = 0.0
    """What decoding a video takes."""
    largest: int = 16
    load_s: float = 0.0


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """One engine process. `streams` None is as many as the device serves best with: cores of a CPU, 1 on a GPU.

    `lease_folder` None takes no lease of the device. A process that says nothing for `hang_after_s`, or whose call
    takes longer than that, is ended. `stage_nice` is how far text, decoding and MP4 stand back for steps. A batch is
    held open for more at most `hold_max_s`, where that is expected to pay; 0 never holds one.
    """

    artifacts_url: str = ""
    artifacts_cache: str = ""
    streams: int | None = None
    threads: int = 1
    lease_folder: str | None = None
    synthetic: Synthetic | None = None
    hang_after_s: float = 60.0
    stage_nice: int = 5
    batch_max: int = 8
    hold_max_s: float = 0.05


@dataclass(frozen=True, slots=True)
class VersionToLoad:
    """A model version: its files in `folder`, and the engine that passed its gates for `target`.

    Without `engine_key`, or where that engine is not in the cache, one is built and compared with the reference.
    """

    version_digest: str
    label: str
    folder: str
    target: Literal["cpu", "tensorrt-rtx", "tensorrt"] = "cpu"
    engine_key: str | None = None
    precision: str | None = None
    ungated: bool = False

    @property
    def served_as(self) -> str:
        """As a `ServedVersion`."""
        return UNGATED * self.ungated + self.version_digest


@dataclass(frozen=True, slots=True)
class EngineJob:
    """A generation to make. `request` is an AcceptedRequest as the store writes it; `deadline_in` in seconds."""

    id: str
    version_digest: str
    request: dict[str, Any]
    tenant: str = "default"
    priority: Priority = "standard"
    deadline_in: float | None = None
    weight: float = 1.0

    @classmethod
    def of(cls, accepted: AcceptedRequest, deadline_in: float | None, weight: float = 1.0) -> "EngineJob":
        """`weight` is the tenant's."""
        asked = accepted.request
        return cls(
            accepted.id,
            accepted.version_digest,
            accepted.model_dump(mode="json"),
            asked.tenant,
            asked.priority,
            deadline_in,
            weight,
        )


# To the engine process


@dataclass(frozen=True, slots=True)
class Configure:
    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Load:
    call: int
    version: VersionToLoad


@dataclass(frozen=True, slots=True)
class Unload:
    call: int
    version_digest: str


@dataclass(frozen=True, slots=True)
class RunJob:
    job: EngineJob


@dataclass(frozen=True, slots=True)
class Cancel:
    id: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a job is from its next boundary on: of the same class without a `priority`, without a deadline if None."""

    id: str
    priority: Priority | None = None
    deadline_in: float | None = None


@dataclass(frozen=True, slots=True)
class Pause:
    paused: bool


@dataclass(frozen=True, slots=True)
class Fork:
    """`job` takes over the latents of the job `id` at its next boundary, with `fields` changed, and waits for Begin.

    The answer is the step from which it goes on; None where there is no such job.
    """

    call: int
    id: str
    job: EngineJob
    fields: dict[str, str | float]


@dataclass(frozen=True, slots=True)
class Begin:
    """A fork takes its steps from now on; with `instead` the job that it was made of ends."""

    id: str
    instead: bool


@dataclass(frozen=True, slots=True)
class Stop:
    grace_s: float


# From the engine process


@dataclass(frozen=True, slots=True)
class Ready:
    """It is there. `synthetic` marks a device without networks."""

    streams: int
    device: str
    synthetic: bool


@dataclass(frozen=True, slots=True)
class Loading:
    """How far a load is, in words for people."""

    version_digest: str
    text: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """A version answers. `memory_before` and `memory_after` are bytes of the process in physical memory."""

    version_digest: str
    seconds: float
    memory_before: int
    memory_after: int
    engine_key: str
    precision: str
    target: str
    built: bool
    batch_max: int
    probe_s: float
    """Of one video from prompt to MP4, as its first answers were checked."""
    step_s: dict[str, float] = field(default_factory=dict)
    """T(B) with one stream: batch -> seconds of a step."""


@dataclass(frozen=True, slots=True)
class Answer:
    """To a call: its `value`, or the `error`. `unavailable`: this machine can't now, or the gate refused."""

    call: int
    value: Any = None
    error: str | None = None
    unavailable: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """Who is in the hands of a stream or stage from now on, nobody if empty."""

    place: str
    ids: list[str]


@dataclass(frozen=True, slots=True)
class Stepped:
    """(id, steps done, steps) of everyone in a batch that ended."""

    steps: list[tuple[str, int, int]]


@dataclass(frozen=True, slots=True)
class Progress:
    """A step boundary of one job."""

    id: str
    steps_done: int
    steps: int


@dataclass(frozen=True, slots=True)
class Finished:
    """A video. `facts`: seconds per stage, batch sizes, device seconds, engine key, precision, target."""

    id: str
    facts: dict[str, Any]
    mp4: bytes = b""


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that ends without a video; `retry`: another try may work."""

    id: str
    error: str
    code: FailureCode
    retry: bool


@dataclass(frozen=True, slots=True)
class Stats:
    """Every half second. Shares are of the time since the last; `batches` counts calls by batch size since start."""

    waiting: int
    running: int
    work_s: float
    busy_share: list[float]
    step_seconds: float | None
    """The mean since the last, None without a step."""
    batches: dict[int, int]
    held_s: float
    """Since start: how long a batch was held open for more, the device idle."""
    expected_per_s: float
    """Jobs a second that are forecast now."""
    memory_bytes: int
    stages: dict[str, int]
    """Jobs that wait in each stage."""
    decision_s: float
    """The longest decision of the scheduler since the last."""
    call_age_s: float
    """How long the oldest call that has not returned has been under way."""
    paused: bool
    yielded: bool
    """Somebody else holds the device for itself."""
    versions: list[str]


@dataclass(frozen=True, slots=True)
class Stopped:
    """The last word of a process that was asked to stop: what it still held."""

    held: list[str]


@dataclass(frozen=True, slots=True)
class Died:
    """The process ended unasked. `busy`: in a batch or a stage then; `held`: everything it had been given."""

    exit_code: int | None
    busy: frozenset[str]
    held: frozenset[str]
    reason: str = ""


EngineEvent: TypeAlias = Progress | Finished | Failed | Stats | Loading | Died

ToEngine = Configure | Load | Unload | RunJob | Cancel | Change | Pause | Fork | Begin | Stop
FromEngine = Ready | Loading | Answer | Running | Stepped | Finished | Failed | Stats | Stopped

_TYPES: Mapping[str, type] = {
    kind.__name__: kind
    for kind in (
        Configure, Load, Unload, RunJob, Cancel, Change, Pause, Fork, Begin, Stop,
        Ready, Loading, Answer, Running, Stepped, Finished, Failed, Stats, Stopped,
    )
}  # fmt: skip
_ENVELOPE = TypeAdapter(dict[str, Any])
_adapters: dict[str, TypeAdapter[Any]] = {}


def _adapter(name: str) -> TypeAdapter[Any]:
    if name not in _adapters:
        _adapters[name] = TypeAdapter(_TYPES[name])
    return _adapters[name]


def encode(message: ToEngine | FromEngine) -> bytes:
    """One frame. Raises MalformedMessage for one that is too large."""
    name, payload = type(message).__name__, b""
    values = {each.name: getattr(message, each.name) for each in fields(message)}
    if isinstance(message, Finished):
        payload = values.pop("mp4")
    head = _ENVELOPE.dump_json({"type": name, **values})
    if len(head) > MAX_HEAD or len(payload) > MAX_PAYLOAD:
        raise MalformedMessage(f"{name} of {len(head):,} + {len(payload):,} bytes; {_ALLOWED}")
    return HEADER.pack(len(head), len(payload)) + head + payload


def sizes(header: bytes) -> tuple[int, int]:
    """Bytes of head and payload that follow. Raises MalformedMessage for more than is allowed."""
    head, payload = HEADER.unpack(header)
    if head > MAX_HEAD or payload > MAX_PAYLOAD:
        raise MalformedMessage(f"a frame of {head:,} + {payload:,} bytes; {_ALLOWED}")
    return head, payload


def decode(head: bytes, payload: bytes = b"") -> Any:
    """The message of a frame. Raises MalformedMessage."""
    try:
        values = _ENVELOPE.validate_json(head)
        name = values.pop("type")
        if payload:
            values["mp4"] = payload
        if name not in _TYPES or (payload and name != "Finished"):
            raise MalformedMessage(f"type: got {name!r}; allowed: {', '.join(_TYPES)}")
        return _adapter(name).validate_python(values)
    except (ValidationError, KeyError, TypeError) as error:
        raise MalformedMessage(f"a frame that holds no message: {error}") from error
