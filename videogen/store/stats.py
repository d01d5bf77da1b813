"""What a store holds, counted without changing it (but that a generation nobody can read is put back to its start).

A look costs about the same however much there is: of each lane it reads the first `MOST` requests, of what has ended
and of the videos as many, and it counts the rest by their names or not at all. `cut` names the counts that this made
too small.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from videogen.errors import RecordDamaged
from videogen.requests import Lane
from videogen.store.batches import Batches
from videogen.store.champions import Champions
from videogen.store.index import LANES
from videogen.store.local_cache import CacheStats
from videogen.store.primitives import BackendFacts, Record, RecordStore
from videogen.store.queue import RequestQueue, chunks
from videogen.store.records import END_STATES, OPEN_BATCH_STATES
from videogen.store.servers import Server, Servers

MOST = 10_000
MOST_ENTRIES = 1_000_000
"""Of a lane's index, which is counted a page of names at a time."""
CHUNK = 256
REPLICA = "replica"
"""The kind of the record in which a replicator tells, in the map of "all", what it copied from where."""


@dataclass(frozen=True, slots=True)
class RequestCount:
    """Live requests that have lane, state and tenant in common."""

    lane: Lane
    state: str
    tenant: str
    requests: int


@dataclass(frozen=True, slots=True)
class ReplicaStats:
    """A one-way copy into this store: `source` without credentials, `lag_s` as it is now."""

    source: str
    lag_s: float


@dataclass(frozen=True, slots=True)
class StoreStats:
    """A store at one time. Ages in seconds of the store's clock.

    `live`: requests that have not ended, by lane. `requests`: the same by lane, state and tenant. `oldest_waiting_s`:
    age of the oldest that nobody makes, by lane. `open_leases`: generations of live requests that are being made.
    `ended`: the latest to end, by state. `answers`: the done ones of those, by what answered them: a video that was
    there ("hit"), one that was made for another ("joined"), one that was made for them ("miss"). `claims`,
    `retries`, `lease_expiries`: of the generations of all these requests. `dead_letters`: requests that failed for good
    and were not asked again. `video_bytes` is of `videos`. `services` live. `cache` is this process's own.
    """

    backend: BackendFacts
    live: Mapping[Lane, int] = field(default_factory=dict)
    requests: tuple[RequestCount, ...] = ()
    oldest_waiting_s: Mapping[Lane, float] = field(default_factory=dict)
    open_leases: int = 0
    batches: Mapping[str, int] = field(default_factory=dict)
    ended: Mapping[str, int] = field(default_factory=dict)
    answers: Mapping[str, int] = field(default_factory=dict)
    claims: int = 0
    retries: int = 0
    lease_expiries: int = 0
    dead_letters: int = 0
    videos: int = 0
    video_bytes: int = 0
    champions: Mapping[str, str] = field(default_factory=dict)
    """Model -> label of the version that is served."""
    replicas: tuple[ReplicaStats, ...] = ()
    services: tuple[Server, ...] = ()
    cache: CacheStats | None = None
    cut: tuple[str, ...] = ()


class _Looking:
    """One look at a store; `most` bounds what is read of each thing."""

    def __init__(self, records: RecordStore, queue: RequestQueue, most: int) -> None:
        self.records, self.queue, self.most, self.now = records, queue, most, records.now()
        self.live: dict[Lane, int] = {}
        self.requests: Counter[tuple[Lane, str, str]] = Counter()
        self.oldest: dict[Lane, float] = {}
        self.leased: set[str] = set()
        self.claims = Counter[str]()
        """Leases that were taken on each generation, as the requests tell that it answered."""
        self.expiries: dict[str, int] = {}
        """Leases that ran out, of each generation that had more than one."""
        self.answers: Counter[str] = Counter()
        self.cut: list[str] = []

    def lane(self, lane: Lane) -> None:
        entries = itertools.islice(self.queue.entries([lane]), MOST_ENTRIES)
        seen = 0
        for part in chunks(itertools.islice(entries, self.most), CHUNK):
            seen += len(part)
            self._count(lane, [entry.request_id for entry in part])
        rest = sum(1 for _ in entries)
        read = sum(count for (of, _, _), count in self.requests.items() if of == lane)
        self.live[lane] = read + rest
        if rest:
            self.cut.append(f"requests of lane {lane} by state and tenant")
        if seen + rest == MOST_ENTRIES:
            self.cut.append(f"live requests of lane {lane}")

    def _count(self, lane: Lane, request_ids: Sequence[str]) -> None:
        live = [bins for bins in self._bins("request", request_ids) if bins.get("state") in ("queued", "assigned")]
        keys = list({str(bins.get("generation")) for bins in live})
        states = self.queue.generations.read_many(keys)
        held = {state.key for state in states if state.is_held}
        self.leased |= held
        self.claims |= Counter({state.key: state.attempt for state in states})
        self.expiries |= {state.key: state.expired_leases for state in states}
        for bins in live:
            state = "running" if bins.get("generation") in held else str(bins["state"])
            self.requests[lane, state, _tenant(bins)] += 1
            submitted_at = bins.get("submitted_at")
            if state != "running" and isinstance(submitted_at, int | float):
                self.oldest[lane] = max(self.oldest.get(lane, 0.0), self.now - submitted_at)

    def ended(self) -> Mapping[str, int]:
        found: Counter[str] = Counter()
        for part in self._bounded(self.queue.ended.latest(), "ended requests"):
            ended = [bins for bins in self._bins("request", part) if bins.get("state") in END_STATES]
            found.update(str(bins["state"]) for bins in ended)
            self.answers.update(_answered_by(bins) for bins in ended if bins["state"] == "done")
            self._count_leases(ended)
        return dict(found)

    def _count_leases(self, ended: Sequence[Mapping[str, object]]) -> None:
        claims = Counter[str]()
        for bins in ended:  # of one generation's, who left early knows of fewer than who stayed
            claims |= Counter({str(bins.get("generation")): _attempts(bins)})
        self.claims |= claims
        retried = [key for key, count in claims.items() if count > 1 and key not in self.expiries]
        states = self.queue.generations.read_many(retried) if retried else []
        self.expiries |= {state.key: state.expired_leases for state in states}

    def dead_letters(self) -> int:
        found, seen = 0, set[str]()
        for part in self._bounded(self.queue.dead.latest(), "dead letters"):
            new = [one for one in dict.fromkeys(part) if one not in seen]  # a crash may have one noted in two hours
            seen.update(new)
            failed = [bins for bins in self._bins("request", new) if bins.get("state") == "failed"]
            found += sum(bins.get("requeued_as") is None for bins in failed)
        return found

    def videos(self) -> tuple[int, int]:
        """How many can be served, and their bytes."""
        count = size = 0
        for part in self._bounded(self.records.keys("video"), "videos"):
            for bins in self._bins("video", part):
                expires_at, bytes_ = bins.get("expires_at"), bins.get("size")
                if bins.get("state") == "whole" and not (isinstance(expires_at, float) and expires_at <= self.now):
                    count, size = count + 1, size + (bytes_ if isinstance(bytes_, int) else 0)
        return count, size

    def _bounded(self, keys: Iterable[str], what: str) -> Iterator[list[str]]:
        rest = iter(keys)
        yield from chunks(itertools.islice(rest, self.most), CHUNK)
        if next(rest, None) is not None:
            self.cut.append(what)

    def _bins(self, kind: str, keys: Sequence[str]) -> list[Mapping[str, object]]:
        return [record.bins for record in self.records.read_many(kind, keys) if isinstance(record, Record)]


def look(
    records: RecordStore,
    queue: RequestQueue,
    batches: Batches,
    champions: Champions,
    servers: Servers,
    cache: CacheStats | None = None,
    most: int = MOST,
) -> StoreStats:
    """Counts what is there. Raises StoreUnavailable."""
    looking = _Looking(records, queue, most)
    for lane in LANES:
        looking.lane(lane)
    ended, dead_letters, (videos, video_bytes) = looking.ended(), looking.dead_letters(), looking.videos()
    return StoreStats(
        backend=records.facts(),
        live=looking.live,
        requests=tuple(RequestCount(*key, count) for key, count in sorted(looking.requests.items())),
        oldest_waiting_s=looking.oldest,
        open_leases=len(looking.leased),
        batches=_open_batches(records, batches),
        ended=ended,
        answers=dict(looking.answers),
        claims=looking.claims.total(),
        retries=looking.claims.total() - len(looking.claims),
        lease_expiries=sum(looking.expiries.values()),
        dead_letters=dead_letters,
        videos=videos,
        video_bytes=video_bytes,
        champions=_labels(records, champions),
        replicas=_replicas(records, looking.now),
        services=tuple(servers.seen()),
        cache=cache,
        cut=tuple(looking.cut),
    )


def _attempts(bins: Mapping[str, object]) -> int:
    found = bins.get("attempts")
    return found if isinstance(found, int) else 0


def _answered_by(bins: Mapping[str, object]) -> str:
    """As the usage that its caller is told; a record that does not say was written by an older version, or is a hit."""
    found = bins.get("cache")
    return found if isinstance(found, str) else "joined" if bins.get("joined") else "miss" if _attempts(bins) else "hit"


def _tenant(bins: Mapping[str, object]) -> str:
    try:
        return str(json.loads(str(bins.get("accepted")))["request"]["tenant"])
    except (ValueError, KeyError, TypeError):
        return "?"  # it ends visibly when it is next read


def _open_batches(records: RecordStore, batches: Batches) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for part in chunks((name for name, _ in batches.open_entries()), CHUNK):
        for record in records.read_many("batch", part):
            if isinstance(record, Record) and record.bins.get("state") in OPEN_BATCH_STATES:
                found[str(record.bins["state"])] += 1
    return dict(found)


def _labels(records: RecordStore, champions: Champions) -> Mapping[str, str]:
    return {model: _label(champions, model) for model in sorted(set(records.keys(champions.kind)))}


def _label(champions: Champions, model: str) -> str:
    try:
        champion = champions.get(model)
    except RecordDamaged:
        return "damaged"
    return champion.label if champion is not None else "none"


def _replicas(records: RecordStore, now: float) -> tuple[ReplicaStats, ...]:
    told = ((source, json.loads(text)) for source, text in records.map_range(REPLICA, "all"))
    return tuple(ReplicaStats(source, now - state["at"] + state["lag_s"]) for source, state in told)
