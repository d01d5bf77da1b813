"""New model versions, and versions that a person asks about: each gets a partition and a run of the lifecycle.

What is new is told by version numbers and by the alias `candidate`, never by dates: MLflow's do not move with tags or
aliases. The champion pointer in the store decides what serves; where MLflow's alias says something else it is mended.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import dagster as dg

from resources.registry import RegistryResource
from resources.store import StoreResource
from sensors.outages import keeps, own_cursor
from videogen.errors import RegistryUnavailable, StoreUnavailable, VersionNotFound
from videogen.promotion import ASKED, CANDIDATE, tell_late
from videogen.registry import ModelRegistry, ModelSummary
from videogen.resolve import CHAMPION
from videogen_assets.jobs import ASKED_TAG, model_lifecycle
from videogen_assets.partitions import model_versions

if TYPE_CHECKING:
    from videogen.store.store import Store

RUNS_PER_TICK = 5
MEASURE_AGAIN: Mapping[str, object] = {"ops": {"warm_up": {"config": {"again": True}}}}
"""Run configuration of what a person asks for: the minute in which it was measured may have been a busy one."""
_DIGITS = 12  # of a digest, in run keys


@dataclass(frozen=True, slots=True)
class Known:
    """How far one model has been seen: the cursor's part of it.

    `asks` counts what people asked for, from the second of the first look on: a cursor that was lost must not give
    out old run keys again.
    """

    max_version: int = 0
    digest: str | None = None
    aliases: Mapping[str, int] = field(default_factory=dict)
    asks: int = 0
    asked: str | None = None
    """What `videogen models promote` left on the candidate."""


Cursor = Mapping[str, Known]


@dataclass(frozen=True, slots=True)
class Seen:
    """One version. `digest` is None where it was registered without a manifest.

    `asked` differs with every time that a person asked for it on the command line.
    """

    number: int
    digest: str | None
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class ModelState:
    """One model as it is now.

    `versions` holds, oldest first, at least those above the known one. `candidate` is what the alias points to,
    `pointer` the version that the store serves, None if there is none or MLflow has it no more.
    """

    name: str
    versions: tuple[Seen, ...]
    aliases: Mapping[str, int]
    candidate: Seen | None = None
    pointer: Seen | None = None
    starts_over: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of the lifecycle."""

    label: str
    run_key: str
    reason: str
    asked: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What one tick does. `mends` sets MLflow's champion alias, by model; `looked_at` is for people."""

    launches: tuple[Launch, ...]
    mends: Mapping[str, int]
    cursor: Cursor
    looked_at: str


def plan(cursor: Cursor, models: Sequence[ModelState], now: float, limit: int = RUNS_PER_TICK) -> Plan:
    """Every new version of every model, and every newly pointed-to candidate, at most `limit` of them now.

    What does not fit stays new for the next tick. Models take turns, so that a burst of one does not hold up another.
    A run key holds the digest: a version that comes again under its number runs, one that was seen does not. Versions
    without a manifest are run only if a person asks.
    """
    cursor = {model.name: cursor.get(model.name, Known(asks=int(now))) for model in models}
    wanted = [
        (turn, model, version)
        for model in models
        for turn, version in enumerate(_new_versions(cursor[model.name], model))
    ]
    chosen = sorted(wanted, key=lambda entry: entry[0])[:limit]
    launches = [_for_version(model.name, version) for _, model, version in chosen]
    after = {}
    for model in models:
        taken = [version for _, of, version in chosen if of is model]
        left = sum(of is model for _, of, _ in wanted) - len(taken)
        room = limit - len(launches)
        known, asked = _seen_after(cursor[model.name], model, taken, left, room)
        after[model.name] = known
        launches += asked
    mends = {model.name: model.pointer.number for model in models if model.pointer and _has_drifted(model)}
    return Plan(tuple(launches), mends, after, _looked_at(models, len(wanted) - len(chosen), after, cursor))


def _new_versions(known: Known, model: ModelState) -> list[Seen]:
    start = 0 if model.starts_over else known.max_version
    return [version for version in model.versions if version.number > start and version.digest]


def _seen_after(
    known: Known, model: ModelState, taken: Sequence[Seen], left: int, room: int
) -> tuple[Known, list[Launch]]:
    """What is known once `taken` runs, and the run for a person's wish if there is one and room for it."""
    if left:
        reached = taken[-1] if taken else Seen(0 if model.starts_over else known.max_version, known.digest)
    else:
        reached = model.versions[-1] if model.versions else Seen(0, None)
    aliases = dict(model.aliases)
    if model.pointer is not None:
        aliases[CHAMPION] = model.pointer.number
    candidate = model.candidate
    after = Known(reached.number, reached.digest, aliases, known.asks, candidate.asked if candidate else None)
    if candidate is None or _is_known_wish(candidate, known) or candidate.number in [one.number for one in taken]:
        return after, []
    if not room or (candidate.digest and candidate.number > reached.number):
        return replace(after, aliases=_as_it_was(aliases, known), asked=known.asked), []
    launch = _for_wish(model.name, candidate, known.asks + 1)
    return replace(after, asks=known.asks + 1), [launch]


def _is_known_wish(candidate: Seen, known: Known) -> bool:
    return known.aliases.get(CANDIDATE) == candidate.number and known.asked == candidate.asked


def _as_it_was(aliases: Mapping[str, int], known: Known) -> dict[str, int]:
    """The wish stays unseen until there is room for it."""
    kept = {alias: number for alias, number in aliases.items() if alias != CANDIDATE}
    return kept | {alias: number for alias, number in known.aliases.items() if alias == CANDIDATE}


def _for_version(model: str, version: Seen) -> Launch:
    label = f"{model}@{version.number}"
    return Launch(label, f"{label}:{(version.digest or '')[:_DIGITS]}", "new version")


def _for_wish(model: str, version: Seen, asks: int) -> Launch:
    label = f"{model}@{version.number}"
    run_key = f"{label}:{(version.digest or 'no-manifest')[:_DIGITS]}:{CANDIDATE}-{asks}"
    return Launch(label, run_key, CANDIDATE, version.asked)


def _has_drifted(model: ModelState) -> bool:
    return model.pointer is not None and model.aliases.get(CHAMPION) != model.pointer.number


def _looked_at(models: Sequence[ModelState], waiting: int, after: Cursor, before: Cursor) -> str:
    numbers = ", ".join(f"{model.name} up to {after[model.name].max_version}" for model in models[:10])
    more = ", …" if len(models) > 10 else ""
    parts = [f"{len(models)} models ({numbers}{more})" if models else "no models in MLflow"]
    bare = [
        f"{model.name}@{version.number}"
        for model in models
        for version in model.versions
        if not version.digest and version.number > before[model.name].max_version
    ]
    if bare:
        parts.append(f"{len(bare)} without a manifest, not started: {', '.join(bare[:5])}")
    if waiting:
        parts.append(f"{waiting} more versions next time")
    mended = [model.name for model in models if _has_drifted(model)]
    if mended:
        parts.append(f"alias {CHAMPION} follows the store again: {', '.join(mended)}")
    strays = [model.name for model in models if model.pointer is None and CHAMPION in model.aliases]
    if strays:
        parts.append(f"alias {CHAMPION} without a champion in the store, left alone: {', '.join(strays[:5])}")
    return "; ".join(parts)


def look(registry: ModelRegistry, store: "Store", cursor: Cursor) -> list[ModelState]:
    """Every model as it is now. One query for all, and a few more for those where something may have happened."""
    return [_look_at(registry, store, summary, cursor.get(summary.name, Known())) for summary in registry.summaries()]


def _look_at(registry: ModelRegistry, store: "Store", summary: ModelSummary, known: Known) -> ModelState:
    latest = (Seen(summary.latest, summary.latest_digest),) if summary.latest else ()
    moved_on = summary.latest > known.max_version
    found = _versions(registry, summary.name, known.max_version - 1) if moved_on else latest
    # Its number was given again after a deletion, or the database is a new one: run keys know what has run.
    starts_over = known.max_version > 0 and not any(_is_known(version, known) for version in found)
    if starts_over:
        found = _versions(registry, summary.name, 0)
    champion = store.champion(summary.name)
    return ModelState(
        summary.name,
        found,
        summary.aliases,
        candidate=_candidate(registry, summary),
        pointer=_of_digest(registry, summary, found, champion.version_digest) if champion else None,
        starts_over=starts_over,
    )


def _versions(registry: ModelRegistry, name: str, newer_than: int) -> tuple[Seen, ...]:
    return tuple(Seen(version.version, version.digest) for version in registry.versions(name, max(newer_than, 0)))


def _is_known(version: Seen, known: Known) -> bool:
    return version.number == known.max_version and known.digest in (None, version.digest)


def _candidate(registry: ModelRegistry, summary: ModelSummary) -> Seen | None:
    """As it is now: what a person left on it may be newer than what is known of its number."""
    return _of_number(registry, summary.name, (), summary.aliases.get(CANDIDATE))


def _of_number(registry: ModelRegistry, name: str, found: Sequence[Seen], number: int | None) -> Seen | None:
    if number is None:
        return None
    near = [version for version in found if version.number == number]
    if near:
        return near[0]
    try:
        version = registry.version(name, number)
    except VersionNotFound:  # deleted since its alias was read
        return None
    return Seen(number, version.digest, version.tags.get(ASKED))


def _of_digest(registry: ModelRegistry, summary: ModelSummary, found: Sequence[Seen], digest: str) -> Seen | None:
    near = _of_number(registry, summary.name, found, summary.aliases.get(CHAMPION))
    if near is not None and near.digest == digest:
        return near
    same = [version for version in _versions(registry, summary.name, 0) if version.digest == digest]
    return same[-1] if same else None


def read_cursor(text: str | None) -> Cursor:
    """What `write_cursor` wrote; nothing known for None."""
    return {name: Known(**known) for name, known in json.loads(text).items()} if text else {}


def write_cursor(cursor: Cursor) -> str:
    return json.dumps({name: asdict(known) for name, known in cursor.items()}, sort_keys=True, separators=(",", ":"))


def mend(registry: ModelRegistry, store: "Store", mends: Mapping[str, int], states: Sequence[ModelState]) -> None:
    """Tells MLflow what serves where it says otherwise, unless a promotion moved the pointer meanwhile."""
    digests = {state.name: state.pointer.digest for state in states if state.pointer}
    for model, number in mends.items():
        champion = store.champion(model)
        if champion is not None and champion.version_digest == digests[model]:
            tell_late(registry, champion, number)


@dg.sensor(
    job=model_lifecycle,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts the lifecycle of new model versions and of those that get the alias `candidate` in MLflow.",
)
def new_model_versions(
    context: dg.SensorEvaluationContext, registry: RegistryResource, store: StoreResource
) -> dg.SensorResult:
    """Looks at every model in MLflow."""
    cursor = read_cursor(own_cursor(context.cursor))
    try:
        states = look(registry.registry(), store.store(), cursor)
        planned = plan(cursor, states, time.time())
        mend(registry.registry(), store.store(), planned.mends, states)
    except StoreUnavailable as error:
        return keeps(context.cursor, error)
    except RegistryUnavailable as error:
        return dg.SensorResult(skip_reason=f"MLflow does not answer: {error}", cursor=context.cursor)
    if planned.launches or planned.mends:
        context.log.info(planned.looked_at)
    keys = list(dict.fromkeys(launch.label for launch in planned.launches))
    runs = [
        dg.RunRequest(
            launch.run_key,
            partition_key=launch.label,
            tags={"videogen/reason": launch.reason} | ({ASKED_TAG: launch.asked} if launch.asked else {}),
            run_config=MEASURE_AGAIN if launch.reason == CANDIDATE else {},
        )
        for launch in planned.launches
    ]
    return dg.SensorResult(
        run_requests=runs,
        skip_reason=None if runs else f"Nothing new: {planned.looked_at}.",
        dynamic_partitions_requests=[model_versions.build_add_request(keys)] if keys else [],
        cursor=write_cursor(planned.cursor),
    )
