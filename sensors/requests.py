"""Waiting requests: sealed into batches of one model version, each with a partition and a run.

Nothing is held between the steps. A batch is sealed under an id that follows from its requests, a sealed batch is
launched under a run key that follows from the batch: killed anywhere, the next tick goes on with the same names.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import dagster as dg

from resources.store import StoreResource
from sensors.failed_runs import ATTEMPT_TAG, settle_missed
from sensors.outages import away_since, keeps, own_cursor
from videogen.errors import StoreConflict, StoreUnavailable
from videogen.labels import model_of
from videogen_assets.jobs import batch_generation
from videogen_assets.partitions import request_batches

if TYPE_CHECKING:
    from videogen.store.records import BatchRecord, RequestRecord
    from videogen.store.store import Store


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one tick does, and how much waits for a device at once. Times in seconds."""

    run_s: float = 300.0
    """A run costs some six seconds to start: 2 % of this much work, by what a video takes on its engine,"""
    most_per_batch: int = 8192
    """but no more requests than this; its list of them is one record."""
    requests_per_batch: int = 256
    """Where nothing is known of the version's speed."""
    batches_per_tick: int = 4
    open_per_version: int = 2
    """One that is drained and one that is next. What comes meanwhile gathers, and keeps its order of priority."""
    linger: float = 2.0
    """A burst that still arrives is waited for, as long as its last request is younger than this,"""
    linger_at_most: float = 10.0
    """but no longer than this after its first."""
    start_within: float = 3600.0
    """A batch that no run has started on by then gives its requests back. A run may wait long for the device; one that
    fails or is cancelled gives back at once."""
    recover_every: float = 15.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that is in no batch, `age` seconds old. One with a deadline is `urgent`."""

    id: str
    version_digest: str
    age: float
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch that has not ended. `attempt` counts how often it was sealed."""

    id: str
    version_digest: str
    attempt: int
    sealed: bool
    """It waits for a run to start on it."""

    @property
    def run_key(self) -> str:
        return f"{self.id}:{self.attempt}"


@dataclass(frozen=True, slots=True)
class Cursor:
    """`launched`: run keys of sealed batches whose run was asked for. `recovered_at` by the store's clock."""

    launched: tuple[str, ...] = ()
    recovered_at: float | None = None


Settle = Callable[[], Sequence[str]]
"""Gives back what runs held whose end was missed, and names each batch."""


def plan_seals(
    waiting: Sequence[Waiting],
    batches: Sequence[OpenBatch],
    limits: Limits = Limits(),
    seconds_per_video: Mapping[str, float] = MappingProxyType({}),
) -> list[tuple[str, ...]]:
    """The ids of the requests that go into each new batch, in the order of their turn.

    `seconds_per_video` is by version digest, for those of which it is known. The version whose request is first in
    line comes first. Versions that have their share of open batches wait.
    """
    groups: dict[str, list[Waiting]] = {}
    for request in waiting:
        groups.setdefault(request.version_digest, []).append(request)
    sealed: list[tuple[str, ...]] = []
    for digest, group in groups.items():
        size = _batch_size(seconds_per_video.get(digest), limits)
        chunks = [group[start : start + size] for start in range(0, len(group), size)][: _room(digest, batches, limits)]
        ready = [chunk for chunk in chunks if not _still_arrives(chunk, size, limits)]
        sealed += [tuple(request.id for request in chunk) for chunk in ready]
    return sealed[: limits.batches_per_tick]


def _batch_size(seconds_per_video: float | None, limits: Limits) -> int:
    if not seconds_per_video:
        return limits.requests_per_batch
    return max(1, min(limits.most_per_batch, int(limits.run_s / seconds_per_video)))


def _room(digest: str, batches: Sequence[OpenBatch], limits: Limits) -> int:
    return max(0, limits.open_per_version - sum(batch.version_digest == digest for batch in batches))


def _still_arrives(chunk: Sequence[Waiting], size: int, limits: Limits) -> bool:
    if len(chunk) == size or any(request.urgent for request in chunk):
        return False
    ages = [request.age for request in chunk]
    return min(ages) < limits.linger and max(ages) < limits.linger_at_most


def plan_launches(batches: Sequence[OpenBatch], cursor: Cursor) -> list[OpenBatch]:
    """Every sealed batch whose run was not asked for yet, oldest first."""
    return [batch for batch in batches if batch.sealed and batch.run_key not in cursor.launched]


def cursor_after(batches: Sequence[OpenBatch], recovered_at: float | None) -> Cursor:
    """What is asked for once the launches are made: no longer than the batches that are sealed."""
    return Cursor(tuple(batch.run_key for batch in batches if batch.sealed), recovered_at)


def looked_at(waiting: int, more: bool, batches: Sequence[OpenBatch], returned: int, sealed: int) -> str:
    """What a tick saw and did, with numbers."""
    running = sum(not batch.sealed for batch in batches)
    parts = [
        f"{waiting}{' or more' if more else ''} requests waiting",
        f"{len(batches) - running} batches sealed",
        f"{running} being drained",
    ]
    if sealed:
        parts.append(f"{sealed} sealed now")
    if returned:
        parts.append(f"{returned} given back because no run held them any more")
    return ", ".join(parts)


def read_cursor(text: str | None) -> Cursor:
    """What `write_cursor` wrote; nothing known for None."""
    if not text:
        return Cursor()
    stored = json.loads(text)
    return Cursor(tuple(stored["launched"]), stored["recovered_at"])


def write_cursor(cursor: Cursor) -> str:
    return json.dumps({"launched": cursor.launched, "recovered_at": cursor.recovered_at}, separators=(",", ":"))


def recover(store: "Store", cursor: Cursor, limits: Limits, settle: Settle) -> tuple[int, float | None]:
    """Every few ticks, gives back what dead runs and missed time limits left: how many batches, and when that was."""
    now, last = store.records.now(), cursor.recovered_at
    if last is not None and 0 <= now - last < limits.recover_every:
        return 0, last
    return len(settle()) + len(store.recover().returned_batches), now


def look(store: "Store", batches: Sequence[OpenBatch], limits: Limits) -> "list[RequestRecord]":
    """What waits: a first part, and as much as one tick can seal where a version of that part has room for batches."""
    few = _first_part(limits)
    requests = store.waiting("batch", limit=few)
    digests = {request.version_digest for request in requests}
    if len(requests) < few or not any(_room(digest, batches, limits) for digest in digests):
        return requests
    return store.waiting("batch", limit=_all_of_a_tick(limits))


def _first_part(limits: Limits) -> int:
    return limits.requests_per_batch * limits.batches_per_tick


def _all_of_a_tick(limits: Limits) -> int:
    return max(_first_part(limits), limits.most_per_batch * limits.open_per_version)


def speeds(store: "Store", requests: "Sequence[RequestRecord]") -> dict[str, float]:
    """Version digest -> seconds per video on the slowest engine with which it was promoted, if that was measured."""
    found: dict[str, float] = {}
    for model in {model_of(request.label) for request in requests}:
        for move in store.champion_history(model):
            known = [engine.seconds_per_video for engine in move.champion.targets.values() if engine.seconds_per_video]
            if known:
                found[move.champion.version_digest] = max(known)
    return found


def open_batches(store: "Store") -> list[OpenBatch]:
    """Sealed batches and those that are drained, oldest first."""
    return [_open(batch) for state in ("sealed", "running") for batch in store.batches(state, limit=10_000)]


def seal(store: "Store", plan: Sequence[tuple[str, ...]], limits: Limits) -> int:
    """Seals what was planned, and says how many came about: requests may have been taken or cancelled meanwhile."""
    sealed = 0
    for request_ids in plan:
        try:
            store.seal_batch(request_ids, limits.start_within)
        except StoreConflict:
            continue
        sealed += 1
    return sealed


def _waiting(request: "RequestRecord", now: float) -> Waiting:
    return Waiting(request.id, request.version_digest, now - request.submitted_at, request.deadline_at is not None)


def _open(batch: "BatchRecord") -> OpenBatch:
    return OpenBatch(batch.id, batch.version_digest, batch.attempt, batch.state == "sealed")


def tick(store: "Store", cursor: Cursor, limits: Limits, settle: Settle = tuple) -> tuple[list[OpenBatch], Cursor, str]:
    """One look at the store: the batches to launch, the cursor once that is done, and what was seen."""
    returned, recovered_at = recover(store, cursor, limits, settle)
    now, before = store.records.now(), open_batches(store)
    requests = look(store, before, limits)
    waiting = [_waiting(request, now) for request in requests]
    sealed = seal(store, plan_seals(waiting, before, limits, speeds(store, requests)), limits)
    batches = open_batches(store)
    launches = plan_launches(batches, cursor)[: limits.batches_per_tick]
    after = cursor_after(
        [batch for batch in batches if batch.run_key in cursor.launched or batch in launches], recovered_at
    )
    more = len(waiting) in (_first_part(limits), _all_of_a_tick(limits))
    return launches, after, looked_at(len(waiting), more, batches, returned, sealed)


@dg.sensor(
    job=batch_generation,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Seals waiting requests into batches and starts a run for each.",
)
def waiting_requests(context: dg.SensorEvaluationContext, store: StoreResource) -> dg.SensorResult:
    """Looks at the batch lane of the store."""
    try:
        opened = store.store()
        settle = partial(settle_missed, opened, context.instance)
        launches, cursor, seen = tick(opened, read_cursor(own_cursor(context.cursor)), Limits(), settle)
    except StoreUnavailable as error:
        return keeps(context.cursor, error)
    if since := away_since(context.cursor):
        context.log.info(f"the store answers again; it did not since {since}")
    if launches:
        context.log.info(seen)
    return dg.SensorResult(
        run_requests=[_run(batch) for batch in launches],
        skip_reason=None if launches else f"No batch to start: {seen}.",
        dynamic_partitions_requests=[request_batches.build_add_request([batch.id for batch in launches])]
        if launches
        else [],
        cursor=write_cursor(cursor),
    )


def _run(batch: OpenBatch) -> dg.RunRequest:
    return dg.RunRequest(batch.run_key, partition_key=batch.id, tags={ATTEMPT_TAG: str(batch.attempt)})
