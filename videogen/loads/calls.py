"""What a load asks and when: arrivals, classes and repeats, all decided before the first request is sent."""

import json
import math
import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from videogen.errors import InvalidRequest
from videogen.scheduling.arrivals import Kind, requests
from videogen.scheduling.job import Priority
from videogen.world.grammar import caption, combinations

MODELS_OWN = 0
"""Steps of a kind that leaves them to the model."""
PART = re.compile(r"([A-Za-z][\w-]*):([0-9]*\.?[0-9]+)(?::([1-9][0-9]{0,3}))?")
MIX = "NAME:SHARE or NAME:SHARE:STEPS, comma-separated, such as interactive:0.8,batch:0.2 or short:0.8:4,long:0.2:16"
LINE = (
    'a JSON object such as {"at": 0.25, "priority": "batch", "steps": 8, "deadline": 2.0}; "at" in seconds is required'
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request: due `at` seconds after the start. `fields` as the service takes them."""

    at: float
    kind: str
    fields: Mapping[str, Any]
    is_repeat: bool = False


def kinds(mix: str | None, deadline_s: float | None = None) -> list[Kind]:
    """The classes that `mix` names; one of a priority's name has that priority. Raises InvalidRequest."""
    if mix is None:
        return [Kind("all", MODELS_OWN, deadline_s=deadline_s)]
    found = [PART.fullmatch(part.strip()) for part in mix.split(",")]
    made = [
        Kind(name, int(steps or MODELS_OWN), float(share), priority=_priority(name), deadline_s=deadline_s)
        for name, share, steps in (match.groups() for match in found if match)
    ]
    names = {kind.name for kind in made}
    if not all(found) or len(names) < len(made) or not sum(kind.share for kind in made) > 0:
        raise InvalidRequest("mix", mix, f"{MIX}; each name once, one share above 0")
    return made


def _priority(name: str) -> Priority:
    return name if name in get_args(Priority) else "standard"  # ty: ignore[invalid-explicit-return]


def uniform(rate: float, seconds: float) -> Iterator[float]:
    """Times of arrivals at equal distances, `rate` a second."""
    return (number / rate for number in range(math.ceil(rate * seconds - 1e-9)))


def replayed(trace: Path, deadline_s: float | None = None) -> list[tuple[float, Kind]]:
    """The arrivals that a file of JSON lines holds, in order of time. Raises InvalidRequest, naming the line."""
    if not trace.is_file():
        raise InvalidRequest("trace", str(trace), f"a file that exists; each line of it {LINE}")
    lines = enumerate(trace.read_text().splitlines(), 1)
    found = [_arrival(number, line, deadline_s) for number, line in lines if line.strip()]
    if not found:
        raise InvalidRequest("trace", str(trace), f"a file with at least one line: {LINE}")
    return sorted(found, key=lambda each: each[0])


def _arrival(number: int, line: str, deadline_s: float | None) -> tuple[float, Kind]:
    try:
        given = json.loads(line)
    except ValueError:
        given = None
    if not (isinstance(given, dict) and _is_number(given.get("at"), 0.0)):
        raise InvalidRequest(f"trace line {number}", line, LINE)
    priority, steps = given.get("priority", "standard"), given.get("steps", MODELS_OWN)
    deadline = given.get("deadline", deadline_s)
    if unknown := set(given) - {"at", "priority", "steps", "deadline"}:
        raise InvalidRequest(f"trace line {number}", ", ".join(sorted(unknown)), LINE)
    if priority not in get_args(Priority):
        raise InvalidRequest(f"trace line {number}, priority", priority, " or ".join(get_args(Priority)))
    if type(steps) is not int or steps < 0:
        raise InvalidRequest(f"trace line {number}, steps", steps, "a whole number, 1 or more")
    if deadline is not None and not _is_number(deadline, 0.001):
        raise InvalidRequest(f"trace line {number}, deadline", deadline, "seconds, 0.001 or more")
    name = f"{priority}, {steps} steps" if steps else priority
    return float(given["at"]), Kind(name, steps, priority=priority, deadline_s=deadline)


def _is_number(value: object, least: float) -> bool:
    return type(value) in (int, float) and least <= value < math.inf  # ty: ignore[unsupported-operator]


def plan(
    times: Iterable[float],
    among: Sequence[Kind],
    *,
    own: Sequence[Kind] = (),
    repeats: float = 0.0,
    seed: int = 0,
    first_seed: int = 0,
    prompt: str | None = None,
) -> list[Call]:
    """A call for each time, of a kind drawn by its share, or of its `own`; the share `repeats` are earlier ones again.

    The same `seed` draws the same kinds, repeats and prompts. Videos are seeded from `first_seed` on, one each, so
    that no cache has them yet. Without `prompt`, each asks for something else in words that `videogen-tiny` knows.
    """
    chance, scenes, made = random.Random(seed), list(combinations()), []
    for number, drawn in enumerate(requests(times, among, repeats=repeats, seed=seed)):
        if drawn.repeats is not None:
            earlier = made[drawn.repeats]
            made.append(Call(drawn.at, earlier.kind, earlier.fields, is_repeat=True))
            continue
        kind = own[number] if own else drawn.kind
        text = prompt or caption(chance.choice(scenes), chance)
        made.append(Call(drawn.at, kind.name, _fields(kind, text, first_seed + number)))
    return made


def _fields(kind: Kind, prompt: str, seed: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"prompt": prompt, "seed": seed, "priority": kind.priority}
    if kind.steps != MODELS_OWN:
        fields["num_inference_steps"] = kind.steps
    if kind.deadline_s is not None:
        fields["deadline"] = kind.deadline_s
    return fields
