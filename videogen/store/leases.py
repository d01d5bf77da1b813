"""Claim, renew, publish, fail: what a worker does with the generations that it makes."""

from collections.abc import Mapping, Sequence

from videogen.requests import AcceptedRequest
from videogen.store.generations import Generations, GenerationState
from videogen.store.primitives import RecordStore
from videogen.store.queue import RequestQueue
from videogen.store.records import Claim, Json, Renewal, RequestRecord, StoreLimits, VideoRecord
from videogen.store.videos import Videos


class Leases:
    """Leases over generations, on behalf of the requests that wait for them."""

    def __init__(
        self, records: RecordStore, queue: RequestQueue, generations: Generations, videos: Videos, limits: StoreLimits
    ) -> None:
        self.records, self.queue, self.generations = records, queue, generations
        self.videos, self.limits = videos, limits

    def claim(
        self, request_ids: Sequence[str], holder: str, lease_s: float, limit: int, batch: str | None = None
    ) -> list[Claim]:
        """Up to `limit` leases on what the requests, of `batch` or of none, wait for; [] when nothing is left to take.

        A generation whose holder died is handed out alone, after all the others: should it be what killed the
        holder, it kills nobody else's work.
        """
        while candidates := self._candidates(request_ids, batch):
            fresh = [candidate for candidate in candidates if candidate[0].attempt == 0]
            wanted = fresh[:limit] if fresh else sorted(candidates, key=lambda c: c[0].attempt)[:1]
            self.records.write_many([self.generations.wait(state.key, accepted.id) for state, accepted in wanted])
            if claims := self.generations.claim(wanted, holder, lease_s):
                return claims
        return []

    def _candidates(self, ids: Sequence[str], batch: str | None) -> list[tuple[GenerationState, AcceptedRequest]]:
        found: dict[str, tuple[GenerationState, AcceptedRequest]] = {}
        for record, state in self.queue.resolve(ids):
            free = record is not None and record.state in ("queued", "assigned") and record.batch == batch
            if record and record.accepted and state and free:
                found.setdefault(state.key, (state, record.accepted))
        return list(found.values())

    def renew(self, claims: Sequence[Claim], progress: float | Mapping[str, float] | None = None) -> Renewal:
        """Starts the leases again, each for its own length; `progress` for all, or by generation."""
        if not isinstance(progress, Mapping):
            progress = {} if progress is None else {claim.generation: progress for claim in claims}
        renewed = list(zip(claims, self.generations.renew(claims, progress), strict=True))
        held = [(claim, self._is_wanted(claim)) for claim, alive in renewed if alive]
        return Renewal(
            kept=tuple(claim for claim, wanted in held if wanted),
            lost=tuple(claim for claim, alive in renewed if not alive),
            unwanted=tuple(claim for claim, wanted in held if not wanted),
        )

    def _is_wanted(self, claim: Claim) -> bool:
        return any(record and record.is_live for record in self._waiting(claim.generation))

    def _waiting(self, generation: str) -> list[RequestRecord | None]:
        return self.queue.get_many(self.generations.waiters(generation))

    def publish(self, claim: Claim, mp4: bytes, provenance: Mapping[str, Json]) -> VideoRecord:
        """Gives the generation its one video and ends the requests that wait for it.

        Raises LeaseLost, and publishes nothing, if the lease is another's. After a crash the same call, or anybody
        who looks at the requests, finishes what was left.
        """
        digest = self.videos.put(claim.generation, mp4, provenance)
        self.generations.finish(claim, digest)
        self._waiting(claim.generation)
        return self.videos.get(digest, claim.generation)

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
