"""Batches: requests of one model version that a run answers together.

A batch's record is written by its sealer, then by the run that drains it, so the time since its last write is the age
of its time limit or of the run's lease. A request belongs to the batch that its own record names.
"""

import hashlib
import time
import uuid
from collections.abc import Sequence

from videogen.errors import InvalidRequest, LeaseLost, RecordDamaged, RecordNotFound, StoreConflict
from videogen.store.generations import noted
from videogen.store.index import Journal
from videogen.store.primitives import (
    NEVER,
    Add,
    Condition,
    Is,
    MapPut,
    MapRemove,
    Record,
    RecordStore,
    Set,
    Unwritten,
    Write,
    either,
    every,
)
from videogen.store.queue import RequestQueue
from videogen.store.records import OPEN_BATCH_STATES, BatchRecord, BatchState, RequestRecord, StoreLimits
from videogen.store.request_records import End

SEAL_S = 60.0
"""A batch that has been about to be sealed, or to be returned, for longer than this was left by a crash."""
QUEUED = every(Is("state", "queued"), Is("batch", None))
TIMED_OUT = every(Is("state", "sealed"), Unwritten("time_limit_s"))
RUN_DIED = every(Is("state", "running"), Unwritten("lease_s"))
OPEN_INDEX = "open-batches"


class Batches:
    """Sealing, draining and giving back."""

    def __init__(self, records: RecordStore, queue: RequestQueue, limits: StoreLimits) -> None:
        self.records, self.queue, self.limits = records, queue, limits
        self.ended = Journal(records, "batches", limits.keep_requests)

    def seal(self, request_ids: Sequence[str], time_limit_s: float) -> BatchRecord:
        """Puts those of the requests that are queued into one batch; a run has `time_limit_s` to start on it.

        The id follows from the request ids: the same call after a crash goes on with the same batch. Raises
        StoreConflict if none is queued any more or they are not all of one model version.
        """
        name = batch_id(request_ids)
        asked = [record for record in self.queue.get_many(list(dict.fromkeys(request_ids))) if record]
        found = [record for record in asked if record.is_live and (record.state == "queued" or record.batch == name)]
        versions = {record.version_digest: record.label for record in found}
        if len(versions) != 1:
            kinds = ", ".join(sorted(versions.values())) or "none that waits"
            raise StoreConflict(f"a batch holds waiting requests of one model version; of these {len(asked)}: {kinds}")
        batch = self._seal_as(name, found, time_limit_s)
        if batch.state == "finished":
            raise StoreConflict(f"batch {name}: other batches took all its requests")
        return batch

    def _seal_as(self, name: str, found: Sequence[RequestRecord], time_limit_s: float) -> BatchRecord:
        ids = [record.id for record in found]
        batch = self._open(name, ids, found[0].version_digest, found[0].label, time_limit_s)
        return self.complete_seal(batch) if batch.state == "sealing" else batch

    def _open(self, name: str, request_ids: list[str], digest: str, label: str, limit: float) -> BatchRecord:
        self.records.write(self._index(name))
        operations = (
            Set("state", "sealing"),
            Set("request_ids", request_ids),
            Set("version_digest", digest),
            Set("label", label),
            Set("created_at", self.records.now()),
            Set("time_limit_s", float(limit)),
            Set("seal_s", SEAL_S),
            Set("holder", None),
            Set("error", None),
            Add("attempt", 1),
        )
        write = Write("batch", name, operations, create="only")
        if self.records.write(write) is None:
            closed = either(Is("state", "returned"), Is("state", "finished"))
            self.records.write(Write("batch", name, operations, "never", closed, NEVER))
        return self.get(name)

    def complete_seal(self, batch: BatchRecord) -> BatchRecord:
        """Takes the requests that are still free into the batch, and lets it be seen. May be done again."""
        self._assign(batch)
        mine = [r.id for r in self.queue.get_many(batch.request_ids) if r and r.is_live and r.batch == batch.id]
        if not mine:
            self._close(batch.id, Is("state", "sealing"), "finished")
            return self.get(batch.id)
        operations = (Set("state", "sealed"), Set("request_ids", mine))
        self.records.write(Write("batch", batch.id, operations, "never", Is("state", "sealing")))
        self.records.flush()
        return self.get(batch.id)

    def _assign(self, batch: BatchRecord) -> None:
        records = [r for r in self.queue.get_many(batch.request_ids) if r and r.is_live and r.batch is None]
        worn = [record for record in records if record.assignments >= self.limits.max_assignments]
        error = f"it was put into {self.limits.max_assignments} batches, and no run answered it"
        self.queue.end({record.id: (record, End("failed", error=error)) for record in worn})
        operations = (Set("state", "assigned"), Set("batch", batch.id), Add("assignments", 1))
        fresh = [record for record in records if record not in worn and record.state == "queued"]
        self.records.write_many([Write("request", r.id, operations, "never", QUEUED) for r in fresh])

    def start(self, name: str, holder: str, lease_s: float) -> BatchRecord:
        """The right to drain a batch; the holder of it may ask again. A returned batch is sealed anew first.

        A batch with nothing left to do stays "finished" or "returned". Raises StoreConflict while another holder's
        lease lasts, RecordNotFound.
        """
        batch = self.get(name)
        if batch.state in ("sealing", "returning"):
            batch = self.mend(batch)
        if batch.state == "returned":
            again = [record for record in self.queue.get_many(batch.request_ids) if record and record.state == "queued"]
            batch = self._seal_as(name, again, batch.time_limit_s) if again else batch
        if batch.state in ("finished", "returned"):
            return batch
        free = either(Is("state", "sealed"), every(Is("state", "running"), Is("holder", holder)), RUN_DIED)
        operations = (Set("state", "running"), Set("holder", holder), Set("lease_s", float(lease_s)))
        if self.records.write(Write("batch", name, operations, "never", free)) is None:
            now = self.get(name)
            raise StoreConflict(f"batch {name} is {now.state}, held by {now.holder}")
        return self.get(name)

    def renew(self, name: str, holder: str) -> None:
        """Raises LeaseLost."""
        mine = every(Is("state", "running"), Is("holder", holder))
        if self.records.write(Write("batch", name, (), "never", mine)) is None:
            raise LeaseLost(f"{holder} no longer drains batch {name}")

    def finish(self, name: str, holder: str) -> BatchRecord:
        """Ends a drain: what it left unanswered waits again. Raises LeaseLost."""
        self.renew(name, holder)
        self.unassign(name, self.get(name).request_ids)
        mine = every(Is("state", "running"), Is("holder", holder))
        if not self._close(name, mine, "finished"):
            raise LeaseLost(f"{holder} no longer drains batch {name}")
        self.records.flush()
        return self.get(name)

    def give_back(self, name: str, error: str, holder: str | None) -> BatchRecord:
        """Ends a batch whose run is known to be dead, or never came: its leases end, its requests wait again.

        With `holder`, only if it is this one's or nobody's yet.
        """
        running = Is("state", "running")
        mine = running if holder is None else every(running, Is("holder", holder))
        return self._return(self.get(name), either(Is("state", "sealed"), mine), error)

    def mend(self, batch: BatchRecord) -> BatchRecord:
        """Goes on with what a crash left half done, and gives back what timed out; else changes nothing."""
        if batch.state == "sealing":
            if self._touch(batch, every(Is("state", "sealing"), Unwritten("seal_s"))):
                self.complete_seal(batch)
        elif batch.state == "returning":
            self._finish_return(batch)
        elif batch.state == "sealed":
            self._return(batch, TIMED_OUT, f"no run started on it within {batch.time_limit_s:g} s")
        elif batch.state == "running":
            self._return(batch, RUN_DIED, f"{batch.holder} ended before it was done")
        return self.get(batch.id)

    def _touch(self, batch: BatchRecord, when: Condition) -> bool:
        return self.records.write(Write("batch", batch.id, (), "never", when)) is not None

    def _return(self, batch: BatchRecord, when: Condition, error: str) -> BatchRecord:
        operations = (Set("state", "returning"), Set("error", noted(error)))
        if self.records.write(Write("batch", batch.id, operations, "never", when)) is not None:
            self._finish_return(self.get(batch.id))
        return self.get(batch.id)

    def _finish_return(self, batch: BatchRecord) -> None:
        if batch.holder:
            members = [record for record in self.queue.get_many(batch.request_ids) if record and record.is_live]
            keys = [record.generation for record in members if record.batch == batch.id]
            self.queue.generations.free_from(batch.holder, keys)
        self.unassign(batch.id, batch.request_ids)
        self._close(batch.id, Is("state", "returning"), "returned")

    def unassign(self, name: str, request_ids: Sequence[str]) -> None:
        """Those of the requests that are still in the batch wait again."""
        mine = every(Is("state", "assigned"), Is("batch", name))
        operations = (Set("state", "queued"), Set("batch", None))
        self.records.write_many([Write("request", one, operations, "never", mine) for one in request_ids])

    def _close(self, name: str, when: Condition, state: BatchState) -> bool:
        write = Write("batch", name, (Set("state", state),), "never", when, self.limits.keep_requests)
        if self.records.write(write) is None:
            return False
        self.settle(name)
        return True

    def settle(self, name: str) -> None:
        """What follows a batch's end: into the journal, then out of the index of open ones."""
        self.records.write(self.ended.put(name))
        self.records.write(Write(OPEN_INDEX, "all", (MapRemove(name),)))

    def find(self, name: str) -> BatchRecord | None:
        """Raises RecordDamaged."""
        record = self.records.read("batch", name)
        return None if record is None else _from_record(name, record)

    def get(self, name: str) -> BatchRecord:
        """Raises RecordNotFound or RecordDamaged."""
        batch = self.find(name)
        if batch is None:
            raise RecordNotFound(f"there is no batch {name}")
        return batch

    def open_entries(self) -> list[tuple[str, str]]:
        """Ids of the batches that have not ended, oldest first, and when each was put there."""
        return self.records.map_range(OPEN_INDEX, "all", limit=100_000)

    def find_all(self, state: BatchState | None, limit: int) -> list[BatchRecord]:
        """Open batches oldest first, then the latest that ended. A damaged one is left out: `Recovery` ends it."""
        names = [name for name, _ in self.open_entries()]
        if state not in OPEN_BATCH_STATES:
            names += self.ended.latest()
        found: list[BatchRecord] = []
        for name in dict.fromkeys(names):
            record = self.records.read_many("batch", [name])[0]
            batch = None if not isinstance(record, Record) else _parsed(name, record)
            if batch is not None and state in (None, batch.state):
                found.append(batch)
            if len(found) == limit:
                break
        return found

    def members(self, name: str) -> list[RequestRecord]:
        """The requests that were sealed into a batch, as they are now."""
        return [record for record in self.queue.get_many(self.get(name).request_ids) if record is not None]

    def _index(self, name: str) -> Write:
        return Write(OPEN_INDEX, "all", (MapPut(name, repr(self.records.now())),))


def batch_id(request_ids: Sequence[str]) -> str:
    """The time of the oldest request and a digest of all ids, such as "20261123T081500Z-1a2b3c4d"."""
    ids = sorted(set(request_ids))
    if not ids:
        raise InvalidRequest("request_ids", [], "at least one request")
    milliseconds = uuid.UUID(ids[0]).int >> 80
    when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(milliseconds / 1000))
    return f"{when}-{hashlib.sha256(' '.join(ids).encode()).hexdigest()[:8]}"


def _parsed(name: str, record: Record) -> BatchRecord | None:
    try:
        return _from_record(name, record)
    except RecordDamaged:
        return None


def _from_record(name: str, record: Record) -> BatchRecord:
    """Raises RecordDamaged if it is not what `_open` wrote."""
    state = record.text("state")
    if state not in (*OPEN_BATCH_STATES, "returned", "finished"):
        raise RecordDamaged(f"batch {name}: state holds {state!r}")
    return BatchRecord(
        id=name,
        state=state,
        request_ids=record.texts("request_ids"),
        version_digest=record.text("version_digest"),
        label=record.text("label"),
        attempt=record.count("attempt"),
        created_at=record.number("created_at"),
        time_limit_s=record.number("time_limit_s"),
        holder=record.optional_text("holder"),
        error=record.optional_text("error"),
    )
