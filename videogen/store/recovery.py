"""Puts right what crashes left behind. Any process may run it at any time, also several at once."""

from dataclasses import dataclass

from videogen.errors import RecordDamaged
from videogen.store.batches import Batches
from videogen.store.index import LiveEntry
from videogen.store.primitives import RecordStore, Set, Write
from videogen.store.queue import RequestQueue, chunks
from videogen.store.records import OPEN_BATCH_STATES, BatchRecord, RequestRecord

ORPHAN_S = 600.0
"""An entry that points to no record after this long was left by a submission that never ended."""
CHUNK = 200


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a pass did: ids of batches that were given back and of requests that it ended or that wait again."""

    returned_batches: tuple[str, ...] = ()
    ended_requests: tuple[str, ...] = ()
    requeued_requests: tuple[str, ...] = ()


class Recovery:
    """One pass over everything that has not ended."""

    def __init__(self, records: RecordStore, queue: RequestQueue, batches: Batches) -> None:
        self.records, self.queue, self.batches = records, queue, batches

    def run(self) -> Recovered:
        returned = [name for name, put_at in self.batches.open_entries() if self._mend_batch(name, float(put_at))]
        ended: list[str] = []
        requeued: list[str] = []
        known: dict[str, BatchRecord | None] = {}
        for entries in chunks(self.queue.entries(), CHUNK):
            records = self.queue.get_many([entry.request_id for entry in entries])
            for entry, record in zip(entries, records, strict=True):
                if record is None:
                    self._drop_orphan(entry)
                elif not record.is_live:
                    self._settle(entry, record)
                    ended.append(record.id)
                elif record.turn and entry.key != record.turn + record.id:
                    self._move(entry, record)
                elif record.batch is not None and not self._is_member(record, known):
                    self.batches.unassign(record.batch, [record.id])
                    requeued.append(record.id)
        while self.records.purge():
            pass
        return Recovered(tuple(returned), tuple(ended), tuple(requeued))

    def _mend_batch(self, name: str, put_at: float) -> bool:
        """Was it given back?"""
        try:
            batch = self.batches.find(name)
        except RecordDamaged as error:
            self._end_damaged(name, error)
            return True
        if batch is None:
            if self._is_orphan(put_at):
                self.batches.settle(name)
            return False
        if batch.state not in OPEN_BATCH_STATES:
            self.batches.settle(name)
            return False
        return self.batches.mend(batch).state == "returned"

    def _end_damaged(self, name: str, error: RecordDamaged) -> None:
        """Its requests come back to the queue because no batch has them any more."""
        facts = {"version_digest": "", "label": "", "created_at": 0.0, "time_limit_s": 0.0, "error": str(error)}
        operations = (Set("state", "returned"), Set("request_ids", []), *(Set(n, v) for n, v in facts.items()))
        self.records.write(Write("batch", name, operations, ttl=self.batches.limits.keep_requests))
        self.batches.settle(name)

    def _drop_orphan(self, entry: LiveEntry) -> None:
        if self._is_orphan(float(entry.put_at)):
            self.records.write(self.queue.live.remove_entry(entry))

    def _move(self, entry: LiveEntry, record: RequestRecord) -> None:
        """To where the record says: a submission or a change may have died, and left no other entry than this."""
        live = self.queue.live
        self.records.write(live.put(record.lane, record.turn, record.id, record.submitted_at))
        self.records.write(live.remove_entry(entry))

    def _is_orphan(self, put_at: float) -> bool:
        return self.records.now() - put_at > ORPHAN_S

    def _settle(self, entry: LiveEntry, record: RequestRecord) -> None:
        self.queue.settle([record])
        self.records.write(self.queue.live.remove_entry(entry))  # a damaged record no longer knows its lane

    def _is_member(self, record: RequestRecord, known: dict[str, BatchRecord | None]) -> bool:
        name = record.batch or ""
        if name not in known:
            try:
                known[name] = self.batches.find(name)
            except RecordDamaged:
                known[name] = None
        batch = known[name]
        return batch is not None and batch.state in OPEN_BATCH_STATES and record.id in batch.request_ids
