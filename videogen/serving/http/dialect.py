"""From the fields of OpenAI's video API, and our own beside them, to those of a request."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from videogen.errors import InvalidRequest
from videogen.models.spec import ModelSpec
from videogen.requests import Request
from videogen.serving.http.answers import Refused
from videogen.serving.jobs import ModelInfo

FROM_THE_CALLER = frozenset({"schema_version", "tenant"})
OURS = tuple(name for name in Request.model_fields if name not in FROM_THE_CALLER)
THEIRS = ("seconds", "size", "input_reference", "webhook_url", "session")
REFERENCES = ("input_reference", "image_reference", "reference_url", "video_reference", "video_url", "image_url")
MAX_WARNINGS = 20
FRAMES_OFF = 1
"""How many frames a length in seconds may be off: a model that makes 81 at 16 a second makes 5 seconds."""


@dataclass(frozen=True, slots=True)
class Asked:
    """`fields` of a request; `warnings` name each field that was ignored, and the one that may have been meant."""

    fields: dict[str, Any]
    warnings: tuple[str, ...] = ()
    webhook_url: str | None = None
    session: str | None = None


def translate(given: Mapping[str, Any], model: ModelInfo | None) -> Asked:
    """What a body asks for. `model` is the one that it names, None if there is no such model, which is told later.

    Raises InvalidRequest for a size or a length that the model does not make, listing those it does, and Refused for
    what no model here can do.
    """
    given = {name: value for name, value in given.items() if value is not None}
    _refuse_references(given)
    spec = model.spec if model else None
    fields = {"lane": "interactive"} | {name: given[name] for name in OURS if name in given}
    url, session = _text(given, "webhook_url", "an https URL"), _text(given, "session", "a session's id")
    if model and session is None and "model" not in fields:
        fields["model"] = model.name
    if "size" in given:
        fields |= _size(given, spec)
    if "seconds" in given:
        fields |= _frames(given, spec)
        if session is not None and spec:  # the seconds were counted at this rate
            fields.setdefault("fps", spec.fps)
    return Asked(fields, _warnings(given), url, session)


def _text(given: Mapping[str, Any], name: str, allowed: str) -> str | None:
    value = given.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(name, value, allowed)
    return value


def _refuse_references(given: Mapping[str, Any]) -> None:
    for name in REFERENCES:
        if given.get(name):
            raise Refused(400, "unsupported_capability", f"{name}: no model served here takes a reference", name)
    if given.get("n", 1) not in (1, "1"):
        raise Refused(400, "unsupported_capability", "n: one request makes one video", "n")


def _size(given: Mapping[str, Any], spec: ModelSpec | None) -> dict[str, int]:
    text = given["size"]
    found = re.fullmatch(r"([0-9]{1,5})[xX×]([0-9]{1,5})", text) if isinstance(text, str) else None
    allowed = _sizes(spec) if spec else "WIDTHxHEIGHT in pixels"
    if found is None:
        raise InvalidRequest("size", text, allowed)
    width, height = int(found[1]), int(found[2])
    if spec and (width not in spec.widths or height not in spec.heights):
        raise InvalidRequest("size", text, allowed)
    for name, value in (("width", width), ("height", height)):
        if given.get(name, value) != value:
            raise InvalidRequest(name, given[name], f"{value}, as size says, or no size")
    return {"width": width, "height": height}


def _sizes(spec: ModelSpec) -> str:
    if len(spec.widths) * len(spec.heights) <= 16:
        return " or ".join(f"{width}x{height}" for width in spec.widths for height in spec.heights)
    step = spec.widths[1] - spec.widths[0]
    return f"WIDTHxHEIGHT, each a multiple of {step} up to {spec.widths[-1]} and {spec.heights[-1]}"


def _frames(given: Mapping[str, Any], spec: ModelSpec | None) -> dict[str, int]:
    if "num_frames" in given:
        raise InvalidRequest("seconds", given["seconds"], "nothing: num_frames says how long the video is")
    fps = given.get("fps", spec.fps if spec else None)
    if spec is None or type(fps) is not int or fps < 1:
        _number(given["seconds"], "a number of seconds, as a text or a number")
        return {}  # the model or fps is refused later
    allowed = _lengths(spec, fps)
    seconds = _number(given["seconds"], f"a number of seconds, as a text or a number: {allowed}")
    nearest = min(spec.frames, key=lambda frames: abs(frames - seconds * fps))
    if abs(nearest - seconds * fps) > FRAMES_OFF:
        raise InvalidRequest("seconds", given["seconds"], allowed)
    return {"num_frames": nearest}


def _lengths(spec: ModelSpec, fps: int) -> str:
    lengths = [seconds_of(frames, fps) for frames in spec.frames]
    few = len(lengths) <= 12
    told = " or ".join(lengths) if few else f"{len(lengths)} lengths from {lengths[0]} to {lengths[-1]}"
    return f"{told} at {fps} frames a second"


def _number(given: Any, allowed: str) -> float:
    text = str(given) if type(given) in (int, float, str) else ""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise InvalidRequest("seconds", given, allowed)
    return float(text)


def seconds_of(frames: int, fps: int) -> str:
    """A clip's length for people: whole seconds where it is off by no more than a frame."""
    whole = round(frames / fps)
    return str(whole) if whole and abs(frames - whole * fps) <= FRAMES_OFF else f"{frames / fps:.3g}"


def _warnings(given: Mapping[str, Any]) -> tuple[str, ...]:
    unknown = [str(name) for name in given if name not in OURS and name not in THEIRS and name != "n"]
    return tuple(_warning(name) for name in unknown[:MAX_WARNINGS])


def _warning(name: str) -> str:
    near = get_close_matches(name, (*OURS, *THEIRS), n=1, cutoff=0.7)
    return f"{name[:64]}: not a field of this service, ignored" + (f"; did you mean {near[0]}?" if near else "")
