"""The fields of a request's body, from JSON or from a form, bounded in size and in the time it may take to come."""

import asyncio
import json
import math
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from videogen.errors import InvalidRequest
from videogen.serving.http.answers import Refused
from videogen.serving.http.dialect import REFERENCES

MAX_JSON_BYTES = 64 * 1024
MAX_FORM_BYTES = 16 * 1024 * 1024
MAX_PART_BYTES = 64 * 1024
MAX_FIELDS = 64
BODY_S = 30.0
WHOLE = frozenset({"width", "height", "num_frames", "fps", "num_inference_steps", "seed", "schema_version"})
FRACTIONS = frozenset({"guidance_scale", "deadline"})
OBJECTS = frozenset({"metadata"})
FILE = "a file"


async def read_fields(request: Request) -> dict[str, Any]:
    """The body's fields with the types that they have in JSON; a reference that is a file is the text `FILE`.

    Raises InvalidRequest for what is neither, and Refused for too much of it, one that comes too slowly or other files.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind in ("multipart/form-data", "application/x-www-form-urlencoded")
    bounded = Request(request.scope, _Bounded(request, MAX_FORM_BYTES if is_form else MAX_JSON_BYTES))
    try:
        async with asyncio.timeout(BODY_S):
            return _typed(await _form(bounded)) if is_form else _json(await bounded.body())
    except TimeoutError as error:
        raise Refused(408, "body_too_slow", f"the body took more than {BODY_S:g} s to come") from error


class _Bounded:
    """Hands on what a client sends, up to `most` bytes."""

    def __init__(self, request: Request, most: int) -> None:
        self._receive, self._left, self._most = request.receive, most, most
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > most:
            raise self._too_large(f"{int(length):,}")

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise self._too_large("more")
        return message

    def _too_large(self, given: str) -> Refused:
        return Refused(413, "body_too_large", f"body: got {given} bytes; allowed: at most {self._most:,}", "body")


def _json(body: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(body, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest("body", _shown(body), f"an object in JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InvalidRequest("body", _shown(body), "an object in JSON")
    return fields


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse(text)


def _refuse(text: str) -> float:
    raise ValueError(f"{text[:20]} is no number of JSON's")


def _shown(body: bytes) -> str:
    return body[:200].decode("utf-8", "replace")


async def _form(request: Request) -> dict[str, Any]:
    """A form's fields; `name[key]` makes an object and `name[]` a list, as the openai package writes them."""
    try:
        form = await request.form(max_files=1, max_fields=MAX_FIELDS, max_part_size=MAX_PART_BYTES)
    except (HTTPException, MultiPartException, ValueError) as error:
        told = getattr(error, "detail", None) or str(error)
        raise InvalidRequest(
            "body", "a form that cannot be read", f"a form with at most {MAX_FIELDS} fields: {told}"
        ) from (error)
    if form and next(iter(form)).lstrip().startswith("{"):
        kind = "application/x-www-form-urlencoded"
        raise InvalidRequest("content-type", kind, "application/json, for a body that looks like JSON")
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        outer, opened, inner = name.partition("[")
        if isinstance(value, UploadFile) and outer not in REFERENCES:
            told = f"{name}: got {f'the file {value.filename}'!r}; allowed: a value, not a file"
            raise Refused(400, "invalid_value", told, name)
        plain = FILE if isinstance(value, UploadFile) else value
        if opened and inner == "]":
            held = fields.setdefault(outer, [])
            if isinstance(held, list):
                held.append(plain)
        elif opened and inner.endswith("]"):
            held = fields.setdefault(outer, {})
            if isinstance(held, dict):
                held[inner[:-1]] = plain
        else:
            fields[name] = plain
    await form.close()
    return fields


def _typed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Texts of a form as what they stand for; one that stands for nothing stays as it is, and is refused later."""
    return {name: _value(name, value) for name, value in fields.items() if value != ""}


def _value(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if name in WHOLE:
            return int(value)
        if name in FRACTIONS:
            return _finite(value)
        if name in OBJECTS:
            return json.loads(value, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return value
    return value
