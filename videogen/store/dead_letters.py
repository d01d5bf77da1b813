"""Dead letters: requests that failed, for somebody to look at and to ask again.

What failed stays failed: whoever was told so is not contradicted later. Asking again makes a request of its own, with
attempts, a deadline and a turn of its own, which the failed one names. So every accepted request ends once.
"""

from videogen.errors import StoreConflict
from videogen.requests import new_id
from videogen.store.each import given
from videogen.store.primitives import Is, RecordStore, Set, Write, every
from videogen.store.queue import CHUNK, RequestQueue, chunks
from videogen.store.records import NewRequest, RequestRecord
from videogen.store.submitting import Submitting


class DeadLetters:
    """Those that failed within `StoreLimits.keep_requests`, by the hour in which they did."""

    def __init__(self, records: RecordStore, queue: RequestQueue, submitting: Submitting) -> None:
        self.records, self.queue, self.submitting = records, queue, submitting

    def list(self, limit: int) -> list[RequestRecord]:
        """Up to `limit` that nobody has asked again, latest hour first."""
        found: dict[str, RequestRecord] = {}  # a crash may have one noted in two hours
        for ids in chunks(self.queue.dead.latest(), CHUNK):
            failed = [record for record in self.queue.get_many(ids) if record and record.state == "failed"]
            heirs = self.queue.get_many([record.requeued_as for record in failed if record.requeued_as])
            asked_again = {heir.id for heir in heirs if heir is not None}
            found |= {record.id: record for record in failed if record.requeued_as not in asked_again}
            if len(found) >= limit:
                break
        return list(found.values())[:limit]

    def requeue(self, request_id: str) -> RequestRecord:
        """The request that takes the failed one's place: one and the same however often, and by whom, it is called.

        Raises RecordNotFound, or StoreConflict for one that has not failed or of which nothing can be read.
        """
        record = self.queue.get(request_id)
        if record.state != "failed" or record.accepted is None:
            why = f"is {record.state}" if record.state != "failed" else "is damaged: what it asked for is lost"
            raise StoreConflict(f"request {request_id} {why}; only one that failed can be requeued")
        first = every(Is("state", "failed"), Is("requeued_as", None))
        self.records.write(Write("request", request_id, (Set("requeued_as", new_id()),), "never", first))
        heir = self.queue.get(request_id).requeued_as or ""
        if known := self.queue.get_many([heir])[0]:
            return known
        again = record.accepted.model_copy(update={"id": heir})
        return given(self.submitting.submit_all([NewRequest(again, f"requeued {request_id}")])[0]).record
