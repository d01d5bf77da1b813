"""Claim, renew, publish, fail: what a worker does with the generations that it makes."""

import itertools
import random
from collections.abc import Mapping, Sequence
from functools import partial

from videogen.requests import AcceptedRequest, Lane, batch_key
from videogen.store.each import attempted_in_block
from videogen.store.generations import Generations, GenerationState
from videogen.store.primitives import RecordStore
from videogen.store.queue import RequestQueue, chunks
from videogen.store.records import Claim, Made, Published, Renewal, RequestRecord, StoreLimits
from videogen.store.videos import Brought, Videos

Candidate = tuple[GenerationState, AcceptedRequest]
LOOK_AHEAD = 1024
"""Entries of a lane, in the order of their turns, among which a claim looks for one that it may take."""
ALIKE_AHEAD = 128
"""Entries after that one among which it looks for more that can be made together with it."""
PAGE = 32
HEAD = 8
"""Entries of each of a lane's shards that a claim reads at once: as a rule more than it needs."""
FIRST = 8
"""Of those that wait for a generation, whose wish is looked at first: as a rule one of them has not ended."""


class Leases:
    """Leases over generations, on behalf of the requests that wait for them."""

    def __init__(
        self, records: RecordStore, queue: RequestQueue, generations: Generations, videos: Videos, limits: StoreLimits
    ) -> None:
        self.records, self.queue, self.generations = records, queue, generations
        self.videos, self.limits = videos, limits
        self._ended: tuple[str | None, set[str]] = (None, set())
        """The batch that was claimed of last, and its requests that have ended: an end is for good."""

    def claim(
        self, request_ids: Sequence[str], holder: str, lease_s: float, limit: int, batch: str | None = None
    ) -> list[Claim]:
        """Up to `limit` leases on what the requests, of `batch` or of none, wait for; [] when nothing is left to take.

        A generation whose holder died is handed out alone, after all the others: should it be what killed the
        holder, it kills nobody else's work. It reads no further than it takes to find `limit` that were never tried.
        """
        while wanted := self._next_of(request_ids, limit, batch):
            if claims := self._take(wanted, holder, lease_s):
                return claims
        return []

    def _next_of(self, request_ids: Sequence[str], limit: int, batch: str | None) -> list[Candidate]:
        rested: dict[str, Candidate] = {}
        for ids in chunks(self._not_ended(request_ids, batch), max(limit, PAGE)):
            for state, accepted in self._candidates(ids, batch):
                if not state.retry_in:
                    rested.setdefault(state.key, (state, accepted))
            fresh = [candidate for candidate in rested.values() if candidate[0].attempt == 0]
            if len(fresh) >= limit:
                return fresh[:limit]
        fresh = [candidate for candidate in rested.values() if candidate[0].attempt == 0]
        return fresh or sorted(rested.values(), key=lambda candidate: candidate[0].attempt)[:1]

    def _not_ended(self, request_ids: Sequence[str], batch: str | None) -> list[str]:
        if batch is None:
            return list(request_ids)
        if self._ended[0] != batch:
            self._ended = (batch, set())
        return [request_id for request_id in request_ids if request_id not in self._ended[1]]

    def claim_lane(self, lane: Lane, holder: str, lease_s: float, limit: int, version: str | None) -> list[Claim]:
        """Up to `limit` leases on what waits in a lane outside of batches and can be made together.

        The first of the lane that may be claimed decides with which. What was tried before is handed out alone, when
        it is its turn. It reads at most `LOOK_AHEAD` + `ALIKE_AHEAD` entries, however many there are. Whoever loses
        the first to another claimer begins somewhere behind it, within what it read: else all would meet again.
        """
        lost = 0
        while found := self._next_in(lane, limit * (1 + lost), version):
            wanted = _together(found[random.randrange(len(found)) if lost else 0 :])[:limit]
            if claims := self._take(wanted, holder, lease_s):
                return claims
            lost += 1
        return []

    def _next_in(self, lane: Lane, limit: int, version: str | None) -> list[Candidate]:
        """What may be claimed, in the order of turns, until enough of it goes together with the first."""
        entries = itertools.islice(self.queue.live.entries(lane, HEAD, PAGE), LOOK_AHEAD + ALIKE_AHEAD)
        found: dict[str, Candidate] = {}
        pages_left = LOOK_AHEAD // PAGE
        for ids in chunks((entry.request_id for entry in entries), PAGE):
            for state, accepted in self._candidates(ids, None):
                if not state.retry_in and (version is None or version in accepted.served_as):
                    found.setdefault(state.key, (state, accepted))
            pages_left = min(pages_left, 1 + ALIKE_AHEAD // PAGE if found else pages_left) - 1
            together = _together(list(found.values()))[:limit]
            if len(together) == limit or not pages_left or (together and together[0][0].attempt):
                break
        return list(found.values())

    def _take(self, wanted: Sequence[Candidate], holder: str, lease_s: float) -> list[Claim]:
        with self.records.together():
            self.records.write_many([self.generations.wait(state.key, accepted.id) for state, accepted in wanted])
            return self.generations.claim(wanted, holder, lease_s)

    def claimable_in(self, request_ids: Sequence[str], batch: str | None) -> float | None:
        """Seconds that the first of what nobody makes has yet to rest after a failed attempt; None if all is taken."""
        return min((state.retry_in for state, _ in self._candidates(request_ids, batch)), default=None)

    def _candidates(self, ids: Sequence[str], batch: str | None) -> list[Candidate]:
        found: dict[str, Candidate] = {}
        of, ended = self._ended
        for record, state in self.queue.resolve(ids):
            if batch is not None and batch == of and record is not None and not record.is_live:
                ended.add(record.id)
            free = record is not None and record.state in ("queued", "assigned") and record.batch == batch
            if record and record.accepted and state and free:
                found.setdefault(state.key, (state, record.accepted))
        return list(found.values())

    def renew(self, claims: Sequence[Claim], progress: float | Mapping[str, float] | None = None) -> Renewal:
        """Starts the leases again, each for its own length; `progress` for all, or by generation."""
        if not isinstance(progress, Mapping):
            progress = {} if progress is None else {claim.generation: progress for claim in claims}
        renewed = list(zip(claims, self.generations.renew(claims, progress), strict=True))
        held = [claim for claim, alive in renewed if alive]
        wanted = self._wanted([claim.generation for claim in held])
        return Renewal(
            kept=tuple(claim for claim in held if claim.generation in wanted),
            lost=tuple(claim for claim, alive in renewed if not alive),
            unwanted=tuple(claim for claim in held if claim.generation not in wanted),
        )

    def _wanted(self, generations: Sequence[str]) -> set[str]:
        """Those for which a live request waits."""
        heads = self.generations.first_waiters(generations, FIRST)
        first = self.queue.get_many([request_id for ids in heads for request_id in ids])
        wanted = {record.generation for record in first if record and record.is_live}
        rest = (one for one, ids in zip(generations, heads, strict=True) if one not in wanted and len(ids) == FIRST)
        return wanted.union(one for one in rest if self.awaiting(one))

    def awaiting(self, generation: str) -> list[AcceptedRequest]:
        """The live requests that wait for it."""
        waiting = (one for one in self._waiting(generation) if one and one.is_live and one.generation == generation)
        return [one.accepted for one in waiting if one.accepted is not None]

    def _waiting(self, generation: str) -> list[RequestRecord | None]:
        return self.queue.get_many(self.generations.waiters(generation))

    def publish_all(self, made: Sequence[Made]) -> list[Published | Exception]:
        """Gives each generation its one video and ends the requests that wait for it.

        LeaseLost, and nothing is published, for one whose lease is another's. After a crash the same call, or anybody
        who looks at the requests, finishes what was left.
        """
        brought = [attempted_in_block(partial(self.videos.bring, one.mp4)) for one in made]
        with self.records.together():
            return [
                found if isinstance(found, Exception) else attempted_in_block(partial(self._publish, one, found))
                for one, found in zip(made, brought, strict=True)
            ]

    def _publish(self, made: Made, brought: Brought) -> Published:
        generation = made.claim.generation
        video = self.videos.show(brought, generation, made.provenance)
        state = self.generations.finish(made.claim, video.digest)
        return Published(video, self.queue.answer(self.generations.waiters(generation), state))

    def fail(self, claim: Claim, error: str, retry: bool) -> None:
        """Ends the waiting requests with `error`, or with `retry` lets them be tried again a bounded number of times.

        Raises LeaseLost.
        """
        final = not retry or claim.attempt >= self.limits.max_attempts
        self.generations.fail(claim, error, final)
        if final:
            self._waiting(claim.generation)

    def release(self, claims: Sequence[Claim]) -> None:
        """Gives leases back unused."""
        self.generations.release(claims)


def _together(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The first, and those that can be made with it; what was tried before is made alone."""
    if not candidates or candidates[0][0].attempt:
        return list(candidates[:1])
    kind = _kind(candidates[0])
    return [candidate for candidate in candidates if not candidate[0].attempt and _kind(candidate) == kind]


def _kind(candidate: Candidate) -> tuple[str, tuple[float, ...]]:
    return candidate[1].version_digest, batch_key(candidate[1])
