"""The store: every request, lease, video, batch and champion, for all processes that work on them.

>>> with Store.open("embedded:var/store") as store:  # or aerospike://…, redis://…: see backends/catalog.py
...     request = store.submit(accepted, source="videogen submit")
...     batch = store.seal_batch([r.id for r in store.waiting()], time_limit_s=600)
...     for claim in store.claim(batch.id, holder="run-1", lease_s=60):
...         store.publish(claim, mp4, provenance={"engine": "cpu"})
...     store.finish_batch(batch.id, holder="run-1")
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import TracebackType

from videogen.requests import AcceptedRequest, Lane
from videogen.store.api_keys import ApiKeys
from videogen.store.backends.catalog import open_records
from videogen.store.batches import Batches
from videogen.store.champions import Champions
from videogen.store.dead_letters import DeadLetters
from videogen.store.each import given
from videogen.store.forking import Forking
from videogen.store.generations import Generations
from videogen.store.idempotency import Idempotency, IdempotencyKeys
from videogen.store.index import Line
from videogen.store.leases import Leases
from videogen.store.listing import Listing
from videogen.store.local_cache import CacheStats, CarriedClock, LocalVideoCache
from videogen.store.pace import Eta
from videogen.store.primitives import RecordStore
from videogen.store.queue import RequestQueue
from videogen.store.rate_limits import RateLimits
from videogen.store.records import (
    BatchRecord,
    BatchState,
    Champion,
    ChampionMove,
    Claim,
    Json,
    Made,
    NewRequest,
    Published,
    Receipt,
    Renewal,
    RequestRecord,
    RequestState,
    StoreLimits,
    VideoRecord,
)
from videogen.store.recovery import Recovered, Recovery
from videogen.store.servers import Servers
from videogen.store.sessions import Sessions
from videogen.store.stats import StoreStats, look
from videogen.store.submitting import Submitting
from videogen.store.videos import Videos
from videogen.store.webhooks import Webhooks


class Store:
    """Safe to use from several threads. Every method may raise StoreUnavailable.

    What is read has been put right first: a request that should have ended by now has ended.
    """

    def __init__(self, records: RecordStore, limits: StoreLimits | None = None) -> None:
        self.records, self.limits = records, limits or StoreLimits()
        generations = Generations(records, self.limits)
        self._videos = Videos(records, self.limits.keep_videos, _local_cache(records, self.limits.local_cache_bytes))
        self._queue = RequestQueue(records, generations, self._videos, self.limits)
        keys = self._keys = IdempotencyKeys(records, self.limits.keep_requests)
        self._submitting = Submitting(records, self._queue, generations, keys, self.limits)
        self._listing, self._dead_letters = Listing(self._queue), DeadLetters(records, self._queue, self._submitting)
        self._forking = Forking(records, self._queue)
        self._leases = Leases(records, self._queue, generations, self._videos, self.limits)
        self._batches = Batches(records, self._queue, self.limits)
        self._champions, self._recovery = Champions(records), Recovery(records, self._queue, self._batches)
        self.api_keys = ApiKeys(records)
        self.webhooks, self.servers = Webhooks(records), Servers(records, self.cache_stats)
        self.rate_limits, self.sessions = RateLimits(records), Sessions(records, self.limits.keep_sessions)

    @classmethod
    def open(cls, url: str, limits: StoreLimits | None = None) -> "Store":
        """Raises StoreUnavailable."""
        return cls(open_records(url), limits)

    def close(self) -> None:
        self.records.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    # Requests

    def submit(
        self, accepted: AcceptedRequest, source: str = "", idempotency: Idempotency | None = None
    ) -> RequestRecord:
        """Takes a request in. When this returns, the request is answered or fails visibly, whatever dies.

        A video that is there answers it at once, a generation that runs answers it too when it is done. The same id
        twice is one request, and so is the same `idempotency` of one tenant: InvalidRequest if it came with another.
        """
        return given(self.submit_all([NewRequest(accepted, source, idempotency)])[0]).record

    def submit_and_claim(
        self,
        accepted: AcceptedRequest,
        holder: str,
        lease_s: float,
        source: str = "",
        idempotency: Idempotency | None = None,
    ) -> tuple[RequestRecord, list[Claim]]:
        """`submit`, and at once the lease on what the request waits for, unless it is answered or another has that."""
        found = given(self.submit_all([NewRequest(accepted, source, idempotency, holder, lease_s)])[0])
        return found.record, found.claims

    def submit_all(self, new: Sequence[NewRequest]) -> list[Receipt | Exception]:
        """Each as `submit` or, with a holder, `submit_and_claim` takes it; of one that can't be, what that would raise.

        Where the backend has blocks of writes, they are one.
        """
        return self._submitting.submit_all(new)

    def known(self, idempotency: Idempotency, tenant: str) -> str | None:
        """The id of the request that came with that key before: `submit` would give that one.

        Raises InvalidRequest if the key came with another request.
        """
        return self._keys.find(tenant, idempotency)

    def reserve(self, idempotency: Idempotency, accepted: AcceptedRequest) -> str:
        """Keeps a key for a request; gives the id that `submit` will give it: its own if it is the first with that key.

        Raises InvalidRequest if the key came with another request.
        """
        return self._keys.first(accepted, idempotency).id

    def request(self, request_id: str) -> RequestRecord:
        """Raises RecordNotFound."""
        return self._queue.get(request_id)

    def find(self, request_ids: Sequence[str]) -> list[RequestRecord | None]:
        """Requests at once; None for each that is not there."""
        return self._queue.get_many(request_ids)

    def latest(self, most: int) -> tuple[list[str], bool]:
        """Ids of up to `most` requests, those accepted last first, and whether there may be more.

        Without what ended before the last `most` that did, and of very many live ones only some.
        """
        return self._listing.latest(most)

    def requests(self, states: Iterable[RequestState] | None = None, limit: int = 100) -> list[RequestRecord]:
        """Live requests in the order of their turn, then those that ended, latest first."""
        return self._listing.find_all(states, limit)

    def waiting(self, lane: Lane = "batch", limit: int = 100, model_digest: str | None = None) -> list[RequestRecord]:
        """Requests that are in no batch and not being made, in the order of their turns."""
        return self._listing.waiting(lane, limit, model_digest)

    def line(self, lane: Lane, most: int) -> Line:
        """Who waits in a lane or is being made, by turn, up to about `most`: one look, for counting."""
        return self._queue.live.line(lane, most)

    def next_turn(self, accepted: AcceptedRequest) -> str:
        """Where a request would stand in the line of its lane if it were submitted now."""
        return self._queue.next_turn(accepted)

    def is_answered(self, accepted: AcceptedRequest) -> bool:
        """Is there a video that answers a request at once?"""
        return self._queue.is_answered(accepted)

    def is_first(self, record: RequestRecord) -> bool:
        """Does nobody wait for the same generation who came before?"""
        (waiting,) = self._queue.generations.first_waiters([record.generation], 1)
        return not waiting or waiting[0] >= record.id

    def overdue(self, lane: Lane, seconds: float, limit: int = 100) -> list[RequestRecord]:
        """Requests that were submitted that long ago and that nobody makes."""
        return self._listing.overdue(lane, seconds, limit)

    def is_awaited(self, version_digest: str, lane: Lane = "interactive") -> bool:
        """Does anybody wait for a video of a version, wherever it may be made? Then it is not to be let go anywhere."""
        return self._listing.is_awaited(lane, version_digest)

    def position(self, request_id: str) -> int | None:
        """How many stand before a live request in its lane, None if it has ended. Raises RecordNotFound."""
        return self._listing.position(request_id)

    def eta(self, request_id: str) -> Eta | None:
        """Where a live request stands and when it may be answered, None if it has ended: an estimate, not a promise.

        Raises RecordNotFound.
        """
        return self._listing.eta(request_id)

    def dead_letters(self, limit: int = 100) -> list[RequestRecord]:
        """Requests that failed and that nobody has requeued: why, when, and after how many attempts."""
        return self._dead_letters.list(limit)

    def requeue(self, request_id: str) -> RequestRecord:
        """Asks a failed request again, as a new one; called twice, it is one new request all the same.

        The failed one stays failed. Raises RecordNotFound, or StoreConflict if it has not failed or is damaged.
        """
        return self._dead_letters.requeue(request_id)

    def cancel(self, request_id: str) -> RequestRecord:
        """Ends a live request; its generation goes on if others wait for it. Raises RecordNotFound."""
        return self._queue.cancel(request_id)

    def fork(self, request_id: str, fields: Mapping[str, str | float], step: int) -> RequestRecord:
        """Changes what a live request's video shows, from a step on: it then waits for a generation of its own.

        The one that it waited for goes on if others do. Raises RecordNotFound, or StoreConflict if it has ended.
        """
        return self._forking.fork(request_id, fields, step)

    def plan(self, request_id: str, fields: Mapping[str, str | float]) -> RequestRecord:
        """Changes the `priority`, the `deadline` or both of a live request.

        Raises RecordNotFound, or StoreConflict if it has ended.
        """
        return self._forking.plan(request_id, fields)

    def transfer(self, request_id: str, anew: Callable[[AcceptedRequest], AcceptedRequest]) -> RequestRecord:
        """Has another model version make a live request: `anew` gives what it is for that one, with the same id.

        Raises what `anew` raises, RecordNotFound, or StoreConflict if it has ended.
        """
        return self._forking.transfer(request_id, anew)

    def awaiting(self, generation: str) -> list[AcceptedRequest]:
        """The live requests that wait for a generation."""
        return self._leases.awaiting(generation)

    # Leases

    def claim(self, target: str | Sequence[str], holder: str, lease_s: float, limit: int = 16) -> list[Claim]:
        """Leases on what a batch (its id) or queued requests (their ids) wait for; call until it gives none.

        Up to `limit` that were never tried, then those whose last holder died, one at a time: if one of them kills
        its worker, it takes no other with it. Raises StoreConflict if another drains the batch, RecordNotFound.
        """
        if not isinstance(target, str):
            return self._leases.claim(target, holder, lease_s, limit)
        batch = self._batches.start(target, holder, lease_s)
        return self._leases.claim(batch.request_ids, holder, lease_s, limit, batch.id)

    def claim_lane(
        self, lane: Lane, holder: str, lease_s: float, limit: int = 16, model_digest: str | None = None
    ) -> list[Claim]:
        """Leases on the next that wait in a lane and can be generated in one batch, [] if there is none.

        What is in a sealed batch is its run's. The first that may be claimed, in the order of their turns, decides
        with which: those of its model version (only `model_digest`, if given: one of a request's `served_as`), size,
        steps and guidance. What was tried before is handed out alone. The cost does not grow with what waits:
        `videogen.store.leases` has the bound.
        """
        return self._leases.claim_lane(lane, holder, lease_s, limit, model_digest)

    def claimable_in(self, batch_id: str) -> float | None:
        """Seconds until `claim` has something of a batch that rests after a failed attempt, 0 if it has by now.

        None if others make all that is left of it, or nothing is. Raises RecordNotFound.
        """
        return self._leases.claimable_in(self._batches.get(batch_id).request_ids, batch_id)

    def renew(self, claims: Sequence[Claim], progress: float | Mapping[str, float] | None = None) -> Renewal:
        """Keeps leases alive for another `lease_s`; `progress` in [0, 1], for all or by generation.

        Work on the lost ones is in vain, work on the unwanted ones is for nobody: release them.
        """
        return self._leases.renew(claims, progress)

    def publish(self, claim: Claim, mp4: bytes, provenance: Mapping[str, Json]) -> VideoRecord:
        """Answers all requests that wait on the claim's generation. Raises LeaseLost if it is another's by now."""
        return given(self._leases.publish_all([Made(claim, mp4, provenance)])[0]).video

    def publish_all(self, made: Sequence[Made]) -> list[Published | Exception]:
        """Each as `publish`, or what that would raise; what is asked for next is kept in this process's memory.

        Where the backend has blocks of writes, they are one.
        """
        published = self._leases.publish_all(made)
        for one, found in zip(made, published, strict=True):
            if isinstance(found, Published):
                self._videos.keep_here(one.mp4, found.video)
        return published

    def fail(self, claim: Claim, error: str, retry: bool) -> None:
        """`retry`: the fault may pass, so try again after a rest, `StoreLimits.max_attempts` times in all.

        It rests longer after each attempt: `StoreLimits.first_retry`, `longest_retry`. Raises LeaseLost.
        """
        self._leases.fail(claim, error, retry)

    def release(self, claims: Sequence[Claim]) -> None:
        """Gives leases back unused."""
        self._leases.release(claims)

    # Batches

    def seal_batch(self, request_ids: Sequence[str], time_limit_s: float) -> BatchRecord:
        """Puts queued requests of one model version into a batch, whose run has `time_limit_s` to start.

        The id follows from the request ids, so after a crash the same call goes on with the same batch. Raises
        StoreConflict if none of them is free any more, or they are of several versions.
        """
        return self._batches.seal(request_ids, time_limit_s)

    def batch(self, batch_id: str) -> BatchRecord:
        """Raises RecordNotFound."""
        return self._batches.get(batch_id)

    def batches(self, state: BatchState | None = None, limit: int = 100) -> list[BatchRecord]:
        """Open batches, oldest first, then those that ended, latest first."""
        return self._batches.find_all(state, limit)

    def batch_requests(self, batch_id: str) -> list[RequestRecord]:
        """The requests that were sealed into a batch, as they are now. Raises RecordNotFound."""
        return self._batches.members(batch_id)

    def renew_batch(self, batch_id: str, holder: str) -> None:
        """Keeps the right to drain a batch, which `claim` took. Raises LeaseLost."""
        self._batches.renew(batch_id, holder)

    def finish_batch(self, batch_id: str, holder: str) -> BatchRecord:
        """Ends a drain; what it left unanswered waits again. Raises LeaseLost."""
        return self._batches.finish(batch_id, holder)

    def give_back(self, batch_id: str, error: str, holder: str | None = None) -> BatchRecord:
        """Ends a batch whose run is known to be dead or never came: its requests wait again, its leases end.

        With `holder`, only if it is this one's or nobody's yet. A batch that ended stays as it is.
        """
        return self._batches.give_back(batch_id, error, holder)

    def recover(self) -> Recovered:
        """Puts right what crashes left: call it every minute or so. Dead leases and late batches go back."""
        return self._recovery.run()

    # Videos

    def video(self, digest: str, generation: str | None = None) -> VideoRecord:
        """Raises RecordNotFound. Two generations may give the same bytes: `generation` says whose provenance."""
        return self._videos.get(digest, generation)

    def videos(self, wanted: Sequence[tuple[str, str | None]]) -> list[VideoRecord | None]:
        """As `video`, at once: digests, each with its generation. None for each that is not there or is damaged."""
        return self._videos.get_many(wanted)

    def read_video(self, digest: str) -> bytes:
        """The MP4, verified, from this process's memory where it is held: see `videogen.store.local_cache`.

        Raises RecordNotFound, RecordExpired for a while after its expiry, or RecordDamaged.
        """
        return self._videos.read(digest)

    def stream_video(self, digest: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """The MP4's bytes from `start` up to `stop` in pieces, each verified before it is given, in bounded memory.

        Raises as `read_video`, RecordDamaged only while it is iterated, and InvalidRequest for a range outside of it.
        """
        return self._videos.stream(digest, start, stop)

    def held_video(self, digest: str) -> bytes | None:
        """The MP4 if it is in this process's memory and the store need not be asked about it: no waiting, no I/O."""
        return self._videos.held(digest)

    def stats(self) -> StoreStats:
        """What there is: requests, leases, batches, videos, champions. Counts of much are cut short, and say so."""
        return look(self.records, self._queue, self._batches, self._champions, self.servers, self.cache_stats())

    def cache_stats(self) -> CacheStats | None:
        """What this process's own cache of videos did; None where it has none."""
        return None if self._videos.cache is None else self._videos.cache.stats()

    # Champions

    def champion(self, model: str) -> Champion | None:
        return self._champions.get(model)

    def promote(self, model: str, champion: Champion, expected_generation: int) -> Champion:
        """Moves the pointer if it stands at `expected_generation` (0: there is none). Raises StoreConflict."""
        return self._champions.promote(model, champion, expected_generation)

    def rollback(self, model: str, expected_generation: int | None = None) -> Champion:
        """Brings back the champion before this one. Raises RecordNotFound if there is none, StoreConflict."""
        return self._champions.rollback(model, expected_generation)

    def champion_generation(self, model: str) -> int:
        """How often the pointer was moved, 0 if never: one read of one record, to be asked again and again."""
        return self._champions.generation(model)

    def champion_history(self, model: str) -> list[ChampionMove]:
        """Every move of the pointer, oldest first."""
        return self._champions.history(model)


def _local_cache(records: RecordStore, max_bytes: int) -> LocalVideoCache | None:
    if not max_bytes:
        return None
    if not records.asks_a_server:
        return LocalVideoCache(max_bytes, records.now, peek=records.now)
    clock = CarriedClock(records.now)
    return LocalVideoCache(max_bytes, clock, peek=clock.peek)
