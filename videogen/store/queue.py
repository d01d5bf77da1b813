"""Requests: how they enter, what is known of them, and how they end."""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from videogen.errors import InvalidRequest, RecordDamaged, RecordNotFound
from videogen.requests import AcceptedRequest, Lane, Request
from videogen.store.backends.clock import boot_seconds
from videogen.store.contention import until_swapped
from videogen.store.generations import Generations, GenerationState, noted
from videogen.store.index import LANES, Journal, LiveEntry, LiveIndex
from videogen.store.pace import Pace
from videogen.store.primitives import Record, RecordStore, Write
from videogen.store.records import RequestRecord, StoreLimits
from videogen.store.request_records import (
    End,
    as_ended,
    as_judged,
    as_operations,
    damaged_record,
    end_operations,
    from_record,
    new_record,
)
from videogen.store.turns import Turns
from videogen.store.videos import Videos

T = TypeVar("T")
Resolved = tuple[RequestRecord | None, GenerationState | None]
CHUNK = 100
SLOW_SUBMIT_S = 60.0
"""A submission that took longer than this puts its entry into the live index again: see `Recovery`."""


@dataclass(frozen=True, slots=True)
class Entered:
    """A request that was submitted, with its generation while it is live. `is_new`: nobody had submitted it before."""

    record: RequestRecord
    generation: GenerationState | None
    is_new: bool


class RequestQueue:
    """Requests that wait, and those that have ended.

    A request exists from the moment its record does; whatever else points to it is written before, and is harmless
    without it. Its record says "queued" or "assigned" until it ends; "running" is what its generation adds to that.
    """

    def __init__(self, records: RecordStore, generations: Generations, videos: Videos, limits: StoreLimits) -> None:
        self.records, self.generations, self.videos, self.limits = records, generations, videos, limits
        self.live, self.pace = LiveIndex(records), Pace(records)
        self.turns = Turns(records, limits.tenant_weights, self.pace)
        self.ended = Journal(records, "requests", limits.keep_requests)
        self.dead = Journal(records, "dead-letters", limits.keep_requests)

    def enter(self, accepted: AcceptedRequest, source: str) -> Entered:
        """Takes a request in, which a flush makes durable; it is done at once if its video is there. The same id twice
        is one request."""
        key, now, began = self.generations.key(accepted), self.records.now(), boot_seconds()
        generation = self.generations.read_many([key])[0]
        record = new_record(accepted, key, source, now)
        if generation.state == "done" and self._has_video(generation):
            record = replace(record, state="done", video=generation.video, ended_at=now)
            return Entered(record, None, self._create_done(record))
        if generation.state in ("failed", "done"):
            self.generations.reopen(generation)
            generation = GenerationState(key, exists=True)
        request = accepted.request
        turn = self.turns.take(request.tenant, request.lane, request.priority, now)
        record = replace(record, turn=turn, joined=generation.is_held)
        is_new = self._create(record, began)
        return Entered(_seen(record, {key: generation}) or record, generation, is_new)

    def looked_at(self, entered: Entered) -> Entered:
        """As it stands now: what it waits for may have ended while it entered, and it may be no new one."""
        record = entered.record
        found, state = (self._resolved([record]) if entered.is_new else self.resolve([record.id]))[0]
        if found is None:
            raise RecordNotFound(f"there is no request {record.id}")
        return Entered(found, state, entered.is_new)

    def _create_done(self, record: RequestRecord) -> bool:
        self.records.write(self.ended.put(record.id, at=record.submitted_at))
        write = Write("request", record.id, as_operations(record), create="only", ttl=self.limits.keep_requests)
        return self.records.write(write) is not None

    def _create(self, record: RequestRecord, began: float) -> bool:
        request = record.asked.request
        entry = self.live.put(request.lane, record.turn, record.id, record.submitted_at)
        self.records.write_many([self.generations.wait(record.generation, record.id), entry])
        if self.records.write(Write("request", record.id, as_operations(record), create="only")) is None:
            self._leave_to_first(record)
            return False
        if boot_seconds() - began > SLOW_SUBMIT_S:
            self.records.write(self.live.put(request.lane, record.turn, record.id))
        return True

    def _leave_to_first(self, record: RequestRecord) -> None:
        """Gives up the turn that was taken for a request which somebody had submitted before."""
        first = self._read([record.id])[0]
        if first is not None and first.turn != record.turn:
            self.records.write(self.live.remove(record.lane, record.turn, record.id))

    def get(self, request_id: str) -> RequestRecord:
        """Raises RecordNotFound."""
        found = self.get_many([request_id])[0]
        if found is None:
            raise RecordNotFound(f"there is no request {request_id}")
        return found

    def get_many(self, request_ids: Sequence[str]) -> list[RequestRecord | None]:
        """Requests as they are now; those that should have ended do so first."""
        return [record for record, _ in self.resolve(request_ids)]

    def resolve(self, request_ids: Sequence[str]) -> list[Resolved]:
        """Each request with its generation, if it is live; those that should have ended do so first."""
        return self._resolved(self._read(request_ids))

    def answer(self, request_ids: Sequence[str], generation: GenerationState) -> list[RequestRecord]:
        """Ends those of the requests that wait for a generation, which ended just now; gives all that it has ended.

        On its list may also stand one that was asked otherwise meanwhile, and ended by another generation.
        """
        settled = self._settled(self._read(request_ids), {generation.key: generation})
        ended = (record for record, _ in settled if record is not None and not record.is_live and record.accepted)
        return [one for one in ended if one.generation == generation.key and one.video in (None, generation.video)]

    def _resolved(self, records: Sequence[RequestRecord | None]) -> list[Resolved]:
        keys = list(dict.fromkeys(record.generation for record in records if record and record.is_live))
        states = dict(zip(keys, self.generations.read_many(keys), strict=True)) if keys else {}
        return self._settled(records, self._without_worn_out(self._without_lost_videos(states)))

    def _settled(
        self, records: Sequence[RequestRecord | None], states: Mapping[str, GenerationState]
    ) -> list[Resolved]:
        """`states` are those of the live ones' generations; of others that is left alone."""
        live = [record for record in records if record is not None and record.is_live and record.generation in states]
        now = self.records.now() if any(record.deadline_at is not None for record in live) else 0.0
        ends = {record.id: end for record in live if (end := self._due_end(record, states[record.generation], now))}
        after: dict[str, Resolved] = {}
        if ends:
            ended = self.end({record.id: (record, ends[record.id]) for record in live if record.id in ends})
            after = {record.id: _with(record, states) for record in ended.values()}
            if changed := [record.id for record in ended.values() if record.is_live]:
                after |= zip(changed, self.resolve(changed), strict=True)
        return [after.get(record.id if record else "") or _with(record, states) for record in records]

    def _due_end(self, record: RequestRecord, generation: GenerationState, now: float) -> End | None:
        """How a live request has to end by `now`, if it has to."""
        deadline = record.deadline_at
        until = now - generation.since if generation.state == "done" else now
        if deadline is not None and until >= deadline:
            return End("expired", error="its deadline passed before its video was made", attempts=generation.attempt)
        if generation.state == "done":
            made_for = generation.made_for
            cache = None if made_for is None else "miss" if made_for == record.id else "joined"
            return End("done", video=generation.video, attempts=generation.attempt, cache=cache)
        if generation.state == "failed":
            return End("failed", error=generation.error or "its generation failed", attempts=generation.attempt)
        return None

    def _without_lost_videos(self, states: dict[str, GenerationState]) -> dict[str, GenerationState]:
        """Generations whose video has gone meanwhile start again."""
        done = {key: state for key, state in states.items() if state.state == "done"}
        whole = self.videos.are_whole([state.video or "" for state in done.values()]) if done else set()
        lost = [state for state in done.values() if state.video not in whole]
        for state in lost:
            self.generations.reopen(state)
        return states | {state.key: GenerationState(state.key, exists=True) for state in lost}

    def _without_worn_out(self, states: dict[str, GenerationState]) -> dict[str, GenerationState]:
        """Generations that nobody holds after the last attempt they had have failed."""
        most = self.limits.max_attempts
        worn = [s for s in states.values() if s.state in ("free", "held") and not s.is_held and s.attempt >= most]
        for state in worn:
            self.generations.give_up(state)
        keys = [state.key for state in worn]
        return states | dict(zip(keys, self.generations.read_many(keys), strict=True)) if keys else states

    def _has_video(self, generation: GenerationState) -> bool:
        return generation.video in self.videos.are_whole([generation.video or ""])

    def end(self, ends: dict[str, tuple[RequestRecord, End]]) -> dict[str, RequestRecord]:
        """Ends live requests and tidies up after them.

        One that another ended first stays as that one left it, and one that was asked otherwise meanwhile stays live.
        """
        now = self.records.now()
        writes = [
            Write("request", name, end_operations(end, now), "never", as_judged(record, end), self.limits.keep_requests)
            for name, (record, end) in ends.items()
        ]
        with self.records.together():
            done = dict(zip(ends, self.records.write_many(writes), strict=True))
            ended = [as_ended(*ends[name], now) for name, record in done.items() if record is not None]
            self.settle(ended, now)
        missed = [name for name, record in done.items() if record is None]
        others = self._read(missed) if missed else []
        return {record.id: record for record in (*ended, *others) if record is not None}

    def settle(self, records: Iterable[RequestRecord], now: float | None = None) -> None:
        """What follows a request's end: into the journals, off the waiting list, and last out of the live index."""
        records = list(records)
        if not records:
            return
        now = self.records.now() if now is None else now
        first = [self.ended.put(*(record.id for record in records), at=now)]
        if failed := [record.id for record in records if record.state == "failed"]:
            first.append(self.dead.put(*failed, at=now))
        first += self.pace.count([record.lane for record in records if record.state == "done"], now)
        first += [
            self.generations.stop_waiting(record.generation, record.id) for record in records if record.generation
        ]
        self.records.write_many(first)
        self.records.write_many([self.live.remove(record.lane, record.turn, record.id) for record in records])

    def cancel(self, request_id: str) -> RequestRecord:
        """Ends a live request. One that has ended stays as it is. Raises RecordNotFound."""

        def attempt() -> RequestRecord | None:
            record = self.get(request_id)
            if not record.is_live:
                return record
            ended = self.end({request_id: (record, End("cancelled", attempts=record.attempts))}).get(request_id)
            return None if ended is None or ended.is_live else ended

        ended = until_swapped(attempt, f"request {request_id}")
        self.records.flush()
        return ended

    def entries(self, lanes: Iterable[Lane] = LANES) -> Iterable[LiveEntry]:
        for lane in lanes:
            yield from self.live.entries(lane)

    def next_turn(self, accepted: AcceptedRequest) -> str:
        """Where a request would stand if it were submitted now."""
        request = accepted.request
        return self.turns.next(request.tenant, request.lane, request.priority, self.records.now())

    def moved(self, record: RequestRecord, request: Request) -> str:
        """Where a request comes to stand that is asked with another priority; takes a share."""
        now = self.records.now()
        return self.turns.move(record.turn, record.priority, request, record.submitted_at, now)

    def is_answered(self, accepted: AcceptedRequest) -> bool:
        """Is the video of a request there?"""
        generation = self.generations.read_many([self.generations.key(accepted)])[0]
        return generation.state == "done" and self._has_video(generation)

    def _read(self, request_ids: Sequence[str]) -> list[RequestRecord | None]:
        """As stored. A damaged record ends its request visibly, so that it stands in nobody's way."""
        found: list[RequestRecord | None] = []
        for request_id, record in zip(request_ids, self.records.read_many("request", request_ids), strict=True):
            try:
                if isinstance(record, RecordDamaged):
                    raise record
                found.append(None if record is None else from_record(request_id, record))
            except (RecordDamaged, InvalidRequest) as error:
                found.append(self._fail_damaged(request_id, error))
        return found

    def _fail_damaged(self, request_id: str, error: Exception) -> RequestRecord:
        reason = noted(f"the record of this request is damaged and cannot be read: {error}")
        now = self.records.now()
        operations = as_operations(damaged_record(request_id, reason, now))
        record = self.records.write(Write("request", request_id, operations, ttl=self.limits.keep_requests))
        self.records.write_many([self.ended.put(request_id, at=now), self.dead.put(request_id, at=now)])
        return from_record(request_id, record or Record())


def _seen(record: RequestRecord | None, states: Mapping[str, GenerationState]) -> RequestRecord | None:
    """With what its generation adds: a live request is running while its generation is held."""
    if record is None:
        return None
    if not record.is_live:
        return replace(record, progress=1.0) if record.state == "done" else record
    generation = states.get(record.generation)
    if generation is None:
        return record
    if not generation.is_held:
        return replace(record, attempts=generation.attempt) if generation.attempt != record.attempts else record
    return replace(record, attempts=generation.attempt, state="running", progress=generation.progress)


def _with(record: RequestRecord | None, states: Mapping[str, GenerationState]) -> Resolved:
    return _seen(record, states), states.get(record.generation) if record else None


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in lists of `size`, read no further than asked."""
    rest = iter(items)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
