"""A request that is asked otherwise while it lives: when it is to be made, or what its video shows from a step on.

Of what its video shows, a change makes a fork: the request leaves the generation that it waits for, which goes on if
others do too, and waits for one of its own, which nobody else ever finds. Whoever makes that begins at step 0 and comes
to the change at its step; what was made so far may be carried over instead. What the request waits for stands in its
record alone, so it changes in the one write of that; what points to the record is written before, or removed after.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from videogen.errors import StoreConflict
from videogen.requests import AcceptedRequest, Request
from videogen.store.contention import until_swapped
from videogen.store.primitives import Condition, Is, Record, RecordStore, Set, Write, every
from videogen.store.queue import RequestQueue
from videogen.store.records import RequestRecord
from videogen.store.request_records import LIVE


class Forking:
    """Changes of live requests."""

    def __init__(self, records: RecordStore, queue: RequestQueue) -> None:
        self.records, self.queue = records, queue

    def fork(self, request_id: str, fields: Mapping[str, str | float], step: int) -> RequestRecord:
        """Changes parameters from `step` on, or from the request's last change on if that is later.

        Raises RecordNotFound, or StoreConflict for one that has ended.
        """

        def changed(record: RequestRecord, accepted: AcceptedRequest) -> RequestRecord:
            accepted = accepted.changed(step, fields)
            return replace(record, accepted=accepted, generation=self.queue.generations.key(accepted), joined=False)

        return self._change(request_id, changed)

    def plan(self, request_id: str, fields: Mapping[str, str | float]) -> RequestRecord:
        """Changes priority, deadline or both. A priority moves it in its line: see `Turns.move`.

        Raises RecordNotFound, or StoreConflict for one that has ended.
        """

        turns: dict[str, str] = {}

        def moved(record: RequestRecord, request: Request) -> str:  # one share, however often the change is tried
            if record.turn not in turns:
                turns[record.turn] = self.queue.moved(record, request)
            return turns[record.turn]

        def changed(record: RequestRecord, accepted: AcceptedRequest) -> RequestRecord:
            request = accepted.request.model_copy(update=dict(fields))
            return replace(
                record,
                accepted=accepted.model_copy(update={"request": request}),
                priority=request.priority,
                turn=record.turn if request.priority == record.priority else moved(record, request),
                deadline_at=None if request.deadline is None else record.submitted_at + request.deadline,
            )

        return self._change(request_id, changed)

    def transfer(self, request_id: str, anew: Callable[[AcceptedRequest], AcceptedRequest]) -> RequestRecord:
        """Has another model version make a request: `anew` gives what it is for that one, with the same id.

        Raises what `anew` raises, RecordNotFound, or StoreConflict for one that has ended.
        """

        def changed(record: RequestRecord, accepted: AcceptedRequest) -> RequestRecord:
            other = anew(accepted)
            key, version = self.queue.generations.key(other), other.version_digest
            (state,) = self.queue.generations.read_many([key])
            if state.state == "failed":  # of others, before: it is tried anew, as by any other who comes
                self.queue.generations.reopen(state)
            of_other = replace(record, generation=key, version_digest=version, label=other.label)
            return replace(of_other, accepted=other, joined=False)

        return self._change(request_id, changed)

    def _change(
        self, request_id: str, changed: Callable[[RequestRecord, AcceptedRequest], RequestRecord]
    ) -> RequestRecord:
        def attempt() -> RequestRecord | None:
            before = self.queue.get(request_id)
            if not before.is_live:
                raise StoreConflict(f"request {request_id} is {before.state}: only what has not ended can be changed")
            after = changed(before, before.asked)
            return after if self._write(before, after) else None

        after = until_swapped(attempt, f"request {request_id}")
        self.records.flush()
        return self.queue.get(after.id)

    def _write(self, before: RequestRecord, after: RequestRecord) -> bool:
        generations, live = self.queue.generations, self.queue.live
        known = self.records.read("request", before.id)
        if known is None or known.bins.get("generation") != before.generation:
            return False
        forks, moves = after.generation != before.generation, after.turn != before.turn
        place = live.find(before.lane, before.turn, before.id) if moves else None  # one that is put from here on stays
        waits = [generations.wait(after.generation, after.id)] if forks else []
        places = [live.put(after.lane, after.turn, after.id, after.submitted_at)] if moves else []
        self.records.write_many([*waits, *places])
        operations = (*_operations(after), *((Set("joined", None),) if forks else ()))
        done = self.records.write(Write("request", after.id, operations, "never", _as_read(known)))
        if done is None:
            self._take_back(after, forks, places)
            return False
        last = [generations.stop_waiting(before.generation, before.id)] if forks else []
        last += [live.remove_entry(place)] if place is not None else []
        self.records.write_many(last)
        return True

    def _take_back(self, refused: RequestRecord, forks: bool, places: Sequence[Write]) -> None:
        """Removes what pointed to a change that was not written, unless another wrote the same one."""
        now = self.records.read("request", refused.id)
        bins, undone = now.bins if now else {}, []
        if forks and bins.get("generation") != refused.generation:
            undone.append(self.queue.generations.stop_waiting(refused.generation, refused.id))
        if bins.get("turn") != refused.turn:
            undone += map(self.queue.live.take_back, places)
        self.records.write_many(undone)


def _operations(record: RequestRecord) -> tuple[Set, ...]:
    names = ("generation", "version_digest", "label", "priority", "turn", "deadline_at")
    return (*(Set(name, getattr(record, name)) for name in names), Set("accepted", record.asked.to_json()))


def _as_read(record: Record) -> Condition:
    """Nobody changed it since, nor has it ended."""
    return every(LIVE, Is("accepted", record.bins.get("accepted")))
