"""Which parameters of a request may be changed while its video is made, and to what."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from videogen.errors import InvalidRequest
from videogen.models.spec import ModelSpec
from videogen.requests import AcceptedRequest, Request, accept, parse_request

FORKING = ("prompt", "negative_prompt", "guidance_scale")
"""What the video shows: another value makes it a video of its own from the next step on."""
PLANNING = ("priority", "deadline")
"""When it is made; the video stays the same."""
MOST_CHANGES = 64
FIXED = {
    "seed": "the noise that the first step began with was drawn from it",
    "num_inference_steps": "the steps that were taken follow a schedule of that many",
    "model": "the steps that were taken are that model's",
    **dict.fromkeys(
        ("width", "height", "num_frames", "size", "seconds"), "the latents that the steps work on have that shape"
    ),
}
"""What cannot be changed once a request is accepted, and why."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be otherwise than it is, checked: `forking` with a step, `planning` at once."""

    forking: Mapping[str, str | float] = field(default_factory=dict)
    planning: Mapping[str, str | float] = field(default_factory=dict)


def wanted(
    accepted: AcceptedRequest, fields: Mapping[str, Any], spec: ModelSpec | None, vocabulary: Iterable[str] | None
) -> Wanted:
    """What `fields` change of a request. Raises InvalidRequest for what cannot be changed, or not to that.

    Without a `spec`, what the video shows is not checked against the model.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    for name, value in given.items():
        if name not in (*FORKING, *PLANNING):
            why = f" ({name} stays: {FIXED[name]}; ask anew for another)" if name in FIXED else ""
            raise InvalidRequest(name, value, f"what may be changed is {', '.join((*FORKING, *PLANNING))}{why}")
    if not given:
        raise InvalidRequest("body", dict(fields), f"one of {', '.join((*FORKING, *PLANNING))} to change")
    before = accepted.at_last
    asked = parse_request(before.model_dump() | given)
    after = asked
    if spec is not None:
        after = accept(asked, spec, accepted.version_digest, vocabulary, label=accepted.label).request
    found = Wanted(_other(FORKING, given, before, after), _other(PLANNING, given, before, after))
    if found.forking and len(accepted.changes) >= MOST_CHANGES:
        raise InvalidRequest(next(iter(found.forking)), given, f"at most {MOST_CHANGES} changes of one request")
    return found


def _other(names: Iterable[str], given: Mapping[str, Any], before: Request, after: Request) -> dict[str, str | float]:
    asked = {name: getattr(after, name) for name in names if name in given}
    return {name: value for name, value in asked.items() if value != getattr(before, name)}
