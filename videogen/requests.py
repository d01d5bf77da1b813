"""What a request is: its fields, its acceptance against a model, its canonical form and its fingerprint."""

import hashlib
import json
import math
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_serializer,
    model_validator,
)

from videogen.errors import InvalidRequest, UnknownWord
from videogen.models.spec import ModelSpec

SCHEMA_VERSION = 1
MAX_PROMPT_CHARACTERS = 4_000
MAX_METADATA_CHARACTERS = 4_096
MAX_SEED = 2**53 - 1
"""The largest whole number that every JSON reader keeps exactly."""
MAX_FPS = 60

Lane = Literal["batch", "interactive"]
Priority = Literal["interactive", "standard", "batch"]
Number = Annotated[StrictInt | StrictFloat, "a number"]

FILLED = ("width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale")
"""What the model's spec decides when a request leaves it open."""
FORKED = "forked"
"""Fingerprints that begin so are one request's own: its parameters were changed while its video was made."""
UNGATED = "ungated."
"""Fingerprints that begin so are one request's own: what a version makes before its gates is shared with nobody."""
OUTSIDE_FINGERPRINT = ("schema_version", "model", "seed", "tenant", "lane", "priority", "deadline", "metadata")


class Request(BaseModel):
    """A wish for one video. None means: as the model's spec says, or for the seed: draw one.

    `deadline` is in seconds after acceptance. Constructing one raises InvalidRequest for a field that does not exist
    or has the wrong type; `accept` checks the values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = SCHEMA_VERSION
    model: StrictStr = "videogen-tiny@champion"
    prompt: StrictStr
    negative_prompt: StrictStr = ""
    inputs: tuple[StrictStr, ...] = ()
    width: StrictInt | None = None
    height: StrictInt | None = None
    num_frames: StrictInt | None = None
    fps: StrictInt | None = None
    num_inference_steps: StrictInt | None = None
    guidance_scale: Number | None = None
    seed: StrictInt | None = None
    adapters: tuple[StrictStr, ...] = ()
    postprocess: tuple[StrictStr, ...] = ()
    tenant: StrictStr = "default"
    lane: Lane = "batch"
    priority: Priority = "standard"
    deadline: Number | None = None
    metadata: dict[StrictStr, StrictStr | bool | StrictInt | StrictFloat | None] = {}

    @model_validator(mode="wrap")
    @classmethod
    def _one_clear_error(cls, data: Any, handler: Any) -> Any:
        try:
            return handler(data)
        except ValidationError as error:
            raise _as_invalid_request(_most_telling(error)) from error


class Change(BaseModel):
    """What was asked otherwise while a video was made: the steps before `step` are as before, those from it on so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: int
    prompt: str | None = None
    negative_prompt: str | None = None
    guidance_scale: float | None = None

    @property
    def fields(self) -> dict[str, str | float]:
        """Of a request, without those that it leaves as they are."""
        return self.model_dump(exclude={"step"}, exclude_none=True)


class AcceptedRequest(BaseModel):
    """A request with every field filled, its seed drawn and its model resolved to one version.

    `request` is what the first step goes by, `changes` what later ones do, in their order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    id: str
    request: Request
    version_digest: str
    label: str
    fingerprint: str
    changes: tuple[Change, ...] = ()

    @model_serializer(mode="wrap")
    def _as_before_there_were_changes(self, handler: Any) -> dict[str, Any]:
        """Without `changes` where there are none: what was written before knows no such field, nor who reads it."""
        written = handler(self)
        return written if self.changes else {name: value for name, value in written.items() if name != "changes"}

    @property
    def served_as(self) -> frozenset[str]:
        """As what a service must serve its version to make it: without gates only if it asks for no more."""
        digest = self.version_digest
        return frozenset({digest, UNGATED + digest} if self.fingerprint.startswith(UNGATED) else {digest})

    def at(self, step: int) -> Request:
        """What a step goes by, counted from 0."""
        if not self.changes:
            return self.request
        fields = {name: value for one in self.changes if one.step <= step for name, value in one.fields.items()}
        return self.request.model_copy(update=fields)

    @property
    def at_last(self) -> Request:
        """What its last steps go by."""
        return self.at(self.changes[-1].step if self.changes else 0)

    def changed(self, step: int, fields: Mapping[str, Any]) -> "AcceptedRequest":
        """This one with other parameters from `step` on, or from its last change on if that is later.

        It has a fingerprint of its own, which no other request ever has: nobody joins it, and no cache answers with it.
        """
        one = Change(step=max([step, *(before.step for before in self.changes)]), **fields)
        kind, dot, _ = self.fingerprint.partition(".")
        own = f"{kind if dot else FORKED}.{self.id}.{len(self.changes) + 1}"
        request = self.request.model_copy(update=one.fields) if one.step == 0 else self.request
        return self.model_copy(update={"request": request, "changes": (*self.changes, one), "fingerprint": own})

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> "AcceptedRequest":
        """Raises InvalidRequest if `text` is not what `to_json` wrote."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            raise _as_invalid_request(_most_telling(error)) from error


def parse_request(data: Mapping[str, Any]) -> Request:
    """A request from plain JSON values. Raises InvalidRequest naming the field, what was given and what is allowed."""
    return Request(**{str(name): value for name, value in data.items()})


def accept(
    request: Request,
    spec: ModelSpec,
    version_digest: str,
    vocabulary: Iterable[str] | None = None,
    *,
    label: str | None = None,
) -> AcceptedRequest:
    """Checks `request` against what the model can make, fills every open field and draws the seed if it has none.

    `vocabulary` holds the words that the model knows, None where any text will do. `label` is the version's name for
    people, such as "videogen-tiny@2". Raises InvalidRequest, or UnknownWord naming every such word.
    """
    values = {name: getattr(request, name) for name in FILLED}
    values = {name: getattr(spec, name) if value is None else value for name, value in values.items()}
    values["guidance_scale"] = _finite("guidance_scale", values["guidance_scale"], 1.0, spec.max_guidance_scale)
    values["seed"] = secrets.randbelow(2**32) if request.seed is None else request.seed
    if request.deadline is not None:
        values["deadline"] = _finite("deadline", request.deadline, 0.001, 366 * 86_400.0)
    filled = request.model_copy(update=values)
    _check_text(filled, spec, None if vocabulary is None else tuple(vocabulary))
    _check_numbers(filled, spec)
    _check_rest(filled)
    return AcceptedRequest(
        id=new_id(),
        request=filled,
        version_digest=version_digest,
        label=label or f"{spec.name}@{version_digest[:12]}",
        fingerprint=fingerprint(filled, spec, version_digest),
    )


def canonical(request: Request, spec: ModelSpec) -> dict[str, Any]:
    """The fields that decide what the video shows, without those that equal their default.

    A field added to the schema later therefore leaves older fingerprints as they are.
    """
    kept: dict[str, Any] = {}
    for name, field in Request.model_fields.items():
        value = getattr(request, name)
        default = getattr(spec, name) if name in FILLED else field.default
        if name not in OUTSIDE_FINGERPRINT and value is not None and value != default:
            kept[name] = list(value) if isinstance(value, tuple) else value
    return kept


def fingerprint(request: Request, spec: ModelSpec, version_digest: str) -> str:
    """sha256 of schema version, version digest, canonical parameters and seed, in hexadecimal."""
    identity = [request.schema_version, version_digest, canonical(request, spec), request.seed]
    return hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def batch_key(accepted: AcceptedRequest, step: int = 0) -> tuple[float, ...]:
    """Requests of one version that have this in common can take a step in one batch: size, steps, guided or not."""
    request = accepted.at(step)
    values = request.num_frames, request.height, request.width, request.num_inference_steps
    return *(value or 0 for value in values), (request.guidance_scale or 0) > 1


def new_id() -> str:
    """A UUID of version 7: it sorts by the time it was made (RFC 9562, section 5.7)."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | (random >> 62) << 64 | 2 << 62 | random & (1 << 62) - 1))


def _check_text(request: Request, spec: ModelSpec, vocabulary: tuple[str, ...] | None) -> None:
    if not request.prompt.strip():
        raise InvalidRequest("prompt", request.prompt, "a description of the video, which is not empty")
    for field in ("prompt", "negative_prompt"):
        text, most = getattr(request, field), min(spec.max_prompt_words, spec.max_sequence_length - 1)
        if len(text) > MAX_PROMPT_CHARACTERS:
            raise InvalidRequest(field, text, f"at most {MAX_PROMPT_CHARACTERS:,} characters")
        if not text.isprintable() and any(not c.isprintable() and not c.isspace() for c in text):
            raise InvalidRequest(field, text, "text without control characters")
        words = split_words(text)
        unknown = [word for word in dict.fromkeys(words) if vocabulary is not None and word not in vocabulary]
        if unknown:
            raise UnknownWord(field, unknown if unknown[1:] else unknown[0], _known(unknown, vocabulary or ()))
        if len(words) > most:
            raise InvalidRequest(field, text, f"at most {most} words, this has {len(words)}")
    if not split_words(request.prompt):
        raise InvalidRequest("prompt", request.prompt, "a description of the video, in words")


def split_words(text: str) -> list[str]:
    """The words of `text` as the tokenizer of `videogen-tiny` sees them: lower case, without punctuation around."""
    from videogen.models.tiny_tokenizer import PUNCTUATION  # imports numpy, which a code location need not pay for

    return [stripped for word in text.lower().split() if (stripped := word.strip(PUNCTUATION))]


def _known(unknown: list[str], vocabulary: tuple[str, ...]) -> str:
    near = {word: " or ".join(get_close_matches(word, vocabulary, n=2, cutoff=0.6)) for word in unknown}
    hints = [f"{words} for {word!r}" if unknown[1:] else words for word, words in near.items() if words]
    hint = f"did you mean {', '.join(hints)}? " if hints else ""
    return f"{hint}the model knows: {', '.join(sorted(vocabulary))}"


def _check_numbers(request: Request, spec: ModelSpec) -> None:
    choices = {"width": spec.widths, "height": spec.heights, "num_frames": spec.frames}
    for field, allowed in choices.items():
        if getattr(request, field) not in allowed:
            raise InvalidRequest(field, getattr(request, field), _listed(allowed))
    ranges = {
        "fps": (1, MAX_FPS),
        "num_inference_steps": (1, spec.max_num_inference_steps),
        "seed": (0, MAX_SEED),
    }
    for field, (least, most) in ranges.items():
        if not least <= getattr(request, field) <= most:
            raise InvalidRequest(field, getattr(request, field), f"a whole number from {least} to {most}")


def _check_rest(request: Request) -> None:
    for field in ("inputs", "adapters", "postprocess"):
        if getattr(request, field):
            raise InvalidRequest(field, getattr(request, field), "an empty list: this model takes none")
    if not request.tenant or len(request.tenant) > 64 or not request.tenant.replace("-", "").replace("_", "").isalnum():
        raise InvalidRequest("tenant", request.tenant, "1 to 64 letters, digits, '-' or '_'")
    size = len(json.dumps(request.metadata))
    if size > MAX_METADATA_CHARACTERS:
        raise InvalidRequest("metadata", request.metadata, f"at most {MAX_METADATA_CHARACTERS:,} characters of JSON")


def _finite(field: str, value: float, least: float, most: float) -> float:
    if not (math.isfinite(value) and least <= value <= most):
        raise InvalidRequest(field, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _listed(allowed: tuple[int, ...]) -> str:
    if len(allowed) > 8:
        return f"one of {len(allowed)} sizes from {allowed[0]} to {allowed[-1]}, such as {allowed[0]} or {allowed[1]}"
    return " or ".join(map(str, allowed))


ALLOWED_TYPES = {
    "schema_version": "1",
    "lane": "batch or interactive",
    "priority": "interactive, standard or batch",
    "metadata": "an object of texts, numbers and booleans",
    "inputs": "a list of texts",
    "adapters": "a list of texts",
    "postprocess": "a list of texts",
    "guidance_scale": "a number",
    "deadline": "a number of seconds",
} | dict.fromkeys(("model", "prompt", "negative_prompt", "tenant"), "text")


def _most_telling(error: ValidationError) -> Any:
    """One of the things that pydantic found wrong: a field is often missing only because its name was mistyped."""
    return min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")


def _as_invalid_request(error: Any) -> InvalidRequest:
    """Of what pydantic found wrong: the field, what was given, what is allowed."""
    place = [str(part) for part in error["loc"]]
    field = place[1] if place[:1] == ["request"] and len(place) > 1 else place[0] if place else "request"
    if error["type"] == "extra_forbidden":
        near = get_close_matches(field, Request.model_fields, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}? " if near else ""
        return InvalidRequest(field, error["input"], f"{hint}the fields are: {', '.join(Request.model_fields)}")
    if error["type"] == "missing":
        return InvalidRequest(field, None, "a value: this field has no default")
    return InvalidRequest(field, error["input"], ALLOWED_TYPES.get(field, "a whole number"))
