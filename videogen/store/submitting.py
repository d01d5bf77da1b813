"""How requests come in: several at once, each under the key that its client gave, and with the lease on its work."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from videogen.errors import StoreUnavailable
from videogen.requests import AcceptedRequest
from videogen.store.each import attempted, attempted_in_block
from videogen.store.generations import Generations
from videogen.store.idempotency import Idempotency, IdempotencyKeys
from videogen.store.primitives import RecordStore
from videogen.store.queue import Entered, RequestQueue
from videogen.store.records import Claim, NewRequest, Receipt, StoreLimits

First = tuple[AcceptedRequest, Entered | None]
"""A request under the id that its key stands for, and how it stands if it came with that before."""


class Submitting:
    """What comes at once is one write to a backend that has blocks of them, and one flush to any."""

    def __init__(
        self,
        records: RecordStore,
        queue: RequestQueue,
        generations: Generations,
        keys: IdempotencyKeys,
        limits: StoreLimits,
    ) -> None:
        self.records, self.queue, self.generations, self.keys, self.limits = records, queue, generations, keys, limits

    def submit_all(self, new: Sequence[NewRequest]) -> list[Receipt | Exception]:
        """Takes each in, and gives its holder the lease on what it waits for, unless another has that."""
        firsts = [attempted(partial(self._first, one.accepted, one.idempotency)) for one in new]
        fresh = [
            replace(one, accepted=first[0])
            for one, first in zip(new, firsts, strict=True)
            if isinstance(first, tuple) and first[1] is None
        ]
        entered = iter(self._enter_all(fresh))
        return [self._told(one, first, entered) for one, first in zip(new, firsts, strict=True)]

    def _first(self, accepted: AcceptedRequest, idempotency: Idempotency | None) -> First:
        if idempotency is None:
            return accepted, None
        accepted = self.keys.first(accepted, idempotency)
        known, state = self.queue.resolve([accepted.id])[0]
        if known is None:
            return accepted, None
        self.records.flush()  # whoever submitted it may be about to; see the backends for what others wrote
        return accepted, Entered(known, state, is_new=False)

    def _told(
        self, new: NewRequest, first: First | Exception, entered: Iterator[Receipt | Exception]
    ) -> Receipt | Exception:
        if isinstance(first, Exception):
            return first
        known = first[1]
        if known is None:
            return next(entered)
        return attempted(lambda: Receipt(known.record, self._claim(new, known)))

    def _enter_all(self, new: Sequence[NewRequest]) -> list[Receipt | Exception]:
        """Who gets a new request's lease with the state of its generation that was read before knows that it still is
        so."""
        if not new:
            return []
        with self.records.together():
            entered = [attempted_in_block(partial(self._enter, one)) for one in new]
        try:
            self.records.flush()
        except StoreUnavailable:
            taken = [claim for one in entered if not isinstance(one, Exception) for claim in one[1]]
            with contextlib.suppress(StoreUnavailable):
                self.generations.release(taken)  # nobody hears of them, and the requests stand
            raise
        return [
            found if isinstance(found, Exception) else attempted(partial(self._looked_at, one, *found))
            for one, found in zip(new, entered, strict=True)
        ]

    def _enter(self, new: NewRequest) -> tuple[Entered, list[Claim]]:
        entered = self.queue.enter(new.accepted, new.source)
        return entered, self._claim(new, entered) if entered.is_new else []

    def _looked_at(self, new: NewRequest, entered: Entered, claims: list[Claim]) -> Receipt:
        if claims:
            return Receipt(entered.record, claims)
        entered = self.queue.looked_at(entered)
        return Receipt(entered.record, self._claim(new, entered))

    def _claim(self, new: NewRequest, entered: Entered) -> list[Claim]:
        """Its holder's lease on what it waits for, [] if it is another's, rests, or has failed too often."""
        record, state = entered.record, entered.generation
        if new.holder is None or record.state != "queued" or record.accepted is None:
            return []
        if state is None or state.retry_in or state.attempt >= self.limits.max_attempts:
            return []
        return self.generations.claim([(state, record.accepted)], new.holder, new.lease_s)
