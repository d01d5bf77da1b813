"""A store as Prometheus sees it: what it holds, and how long its backend takes for what.

A process that serves makes one `StoreMetrics`, opens its records through `metered`, and answers a scrape with
`exposition`. Whoever does not ask for it pays nothing.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from videogen.errors import RecordDamaged, StoreUnavailable
from videogen.findings import Finding
from videogen.store.generations import EXPIRED
from videogen.store.primitives import BackendFacts, Record, RecordStore, Set, SetPayload, Write
from videogen.store.request_records import JOINED
from videogen.store.stats import StoreStats

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from videogen.store.store import Store

T = TypeVar("T")
Found = list[Record | RecordDamaged | None]
BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
MOST_TENANTS = 50
"""With series of their own; the others are counted together, under the name of `OTHERS`."""
OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls to the backend that are alike; they took `seconds` in all."""

    operation: str
    kind: str
    calls: int
    seconds: float
    errors: int


class StoreMetrics:
    """The series of one process, in a registry of their own: several of it are in nobody's way."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.registry = prometheus.CollectorRegistry()
        labels = ("backend", "operation", "kind")
        self.seconds = prometheus.Histogram(
            "videogen_store_operation_seconds",
            "Time of a call to the store's backend, by operation and kind of record.",
            labels,
            buckets=BUCKETS_S,
            registry=self.registry,
        )

        def counter(name: str, text: str, *labels: str) -> prometheus.Counter:
            return prometheus.Counter(f"videogen_store_{name}", text, labels, registry=self.registry)

        self.errors = counter(
            "operation_errors", "Calls to the store's backend that raised, by error.", *labels, "error"
        )
        self.payload_bytes = counter("payload_bytes", "Bytes of videos to the backend and from it.", "direction")
        text = "Writes that gave a record a state: of generations, held is a claim and done a publication."
        self.states = counter("states_written", text, "kind", "state")
        text = "Requests whose video was being made for another when they were submitted."
        self.joins = counter("joins", text)
        text = "Claims of what was claimed before: its lease ran out, its run was given up, or a fault may pass."
        self.retries = counter("retries", text)
        self.failed_attempts = counter("failed_attempts", "Attempts whose fault may pass.")
        text = "Leases that ran out, counted when their generation is claimed by another or given up."
        self.lease_expiries = counter("lease_expiries", text)
        text = "Expired records whose room was freed, where the backend does not by itself."
        self.purged = counter("purged_records", text)

    def metered(self, records: RecordStore, backend: str) -> RecordStore:
        """The records, each call counted and timed. `backend` is the label, such as "redis"."""
        return MeteredRecordStore(records, self, backend)

    def calls(self) -> list[Calls]:
        """What the backend was asked so far, what took longest in all first."""
        found: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for family in (*self.seconds.collect(), *self.errors.collect()):
            for sample in family.samples:
                what = sample.name.removeprefix("videogen_store_operation_")
                found[sample.labels["operation"], sample.labels["kind"]][what] += sample.value
        calls = [
            Calls(*at, int(one["seconds_count"]), one["seconds_sum"], int(one["errors_total"]))
            for at, one in found.items()
        ]
        return sorted(calls, key=lambda one: -one.seconds)

    def exposition(self, store: "Store") -> str:
        """Everything in Prometheus's text format. A store that does not answer is a series too, not an error."""
        from prometheus_client import CollectorRegistry, generate_latest

        held = CollectorRegistry()
        held.register(_Held(store))
        what_it_holds = generate_latest(held)  # first, so that what this look took is in the series too
        return (generate_latest(self.registry) + what_it_holds).decode()


class MeteredRecordStore(RecordStore):
    """Records that are another's, each call counted and timed."""

    def __init__(self, records: RecordStore, metrics: StoreMetrics, backend: str) -> None:
        self.records, self.metrics, self.backend = records, metrics, backend
        self.asks_a_server, self.has_blocks = records.asks_a_server, records.has_blocks
        self._observe: dict[tuple[str, str], Callable[[float], None]] = {}
        self._block = _Block()

    def _timed(self, operation: str, kind: str, call: Callable[[], T]) -> T:
        start = time.perf_counter()
        try:
            return call()
        except Exception as error:
            self.metrics.errors.labels(self.backend, operation, kind, type(error).__name__).inc()
            raise
        finally:
            observe = self._observe.get((operation, kind))
            if observe is None:
                observe = self.metrics.seconds.labels(self.backend, operation, kind).observe
                self._observe[operation, kind] = observe
            observe(time.perf_counter() - start)

    def _written(self, write: Write, done: Record | None) -> None:
        if done is None:
            return
        if self._block.written is None:
            self._count(write, done)
        else:
            self._block.written.append((write, done))

    def _count(self, write: Write, done: Record) -> None:
        self._carried("written", [one.payload for one in write.operations if isinstance(one, SetPayload)])
        if not any(isinstance(one, Set) and one.bin == "state" for one in write.operations):
            return
        if JOINED in write.operations:
            self.metrics.joins.inc()
        if EXPIRED in write.operations:
            self.metrics.lease_expiries.inc()
        state = done.bins.get("state")
        self.metrics.states.labels(write.kind, state).inc()
        if (write.kind, state) == ("generation", "held") and done.count("attempt") > 1:
            self.metrics.retries.inc()
        if write.kind == "generation" and done.bins.get("retry_s") is not None:
            self.metrics.failed_attempts.inc()

    def _carried(self, direction: str, payloads: Sequence[bytes]) -> None:
        if payloads:
            self.metrics.payload_bytes.labels(direction).inc(sum(map(len, payloads)))

    def _read(self, kind: str, call: Callable[[], Found]) -> Found:
        found = self._timed("read", kind, call)
        self._carried("read", [one.payload for one in found if isinstance(one, Record) and one.payload])
        return found

    def now(self) -> float:
        return self._timed("now", "", self.records.now)

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        return self._read(kind, lambda: self.records.read_many(kind, keys, aged))

    def read_each(self, names: Sequence[tuple[str, str]]) -> list[Record | RecordDamaged | None]:
        return self._read(_one_of({kind for kind, _ in names}), lambda: self.records.read_each(names))

    def write(self, write: Write) -> Record | None:
        done = self._timed("write", write.kind, lambda: self.records.write(write))
        self._written(write, done)
        return done

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        kind = _one_of({write.kind for write in writes})
        found = self._timed("write", kind, lambda: self.records.write_many(writes))
        for write, done in zip(writes, found, strict=True):
            self._written(write, done)
        return found

    def together(self) -> AbstractContextManager[None]:
        block = self.records.together()
        return self._counted_after(block) if self.has_blocks and self._block.written is None else block

    @contextmanager
    def _counted_after(self, block: AbstractContextManager[None]) -> Generator[None]:
        """What is written in the block counts once that has been left, and not if it was taken back."""
        self._block.written = written = []
        try:
            with block:
                yield
        except BaseException as error:
            if isinstance(error, StoreUnavailable) or not isinstance(error, Exception):
                written.clear()
            raise
        finally:
            self._block.written = None
            for one in written:
                self._count(*one)

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        return self._timed("map_range", kind, lambda: self.records.map_range(kind, key, after, limit))

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        return self._timed("map_heads", kind, lambda: self.records.map_heads(kind, keys, limit))

    def names(self) -> Iterator[tuple[str, str]]:
        return self.records.names()

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        return self.records.keys(kind, since)

    def flush(self) -> None:
        self._timed("flush", "", self.records.flush)

    def purge(self) -> int:
        freed = self._timed("purge", "", self.records.purge)
        self.metrics.purged.inc(freed)
        return freed

    def examine(self) -> list[Finding]:
        return self.records.examine()

    def facts(self) -> BackendFacts:
        return self._timed("facts", "", self.records.facts)

    def close(self) -> None:
        self.records.close()


class _Block(threading.local):
    """The thread's own: what it has written in the block that it is in, None outside of blocks."""

    written: list[tuple[Write, Record]] | None = None


def _one_of(kinds: set[str]) -> str:
    return next(iter(kinds)) if len(kinds) == 1 else "several"


class _Held:
    """What a store holds when it is asked."""

    def __init__(self, store: "Store") -> None:
        self.store = store

    def collect(self) -> "Iterator[Metric]":
        text = "Did the store answer?"
        try:
            found = self.store.stats()
        except StoreUnavailable:
            yield _gauge("up", text, (), [((), 0)])
            return
        yield _gauge("up", text, (), [((), 1)])
        yield from _gauges(found)
        yield from _of_cache(found)


def _gauges(found: StoreStats) -> "Iterator[Metric]":
    yield _gauge("live_requests", "Requests that have not ended.", ("lane",), _by_one(found.live))
    text = "Live requests by state and tenant."
    yield _gauge("requests", text, ("lane", "state", "tenant"), _by_tenant(found))
    text = "Age of the oldest request that nobody makes."
    yield _gauge("oldest_waiting_seconds", text, ("lane",), _by_one(found.oldest_waiting_s))
    yield _gauge("open_leases", "Generations that are being made.", (), [((), found.open_leases)])
    yield _gauge("open_batches", "Batches that have not ended.", ("state",), _by_one(found.batches))
    yield _gauge("ended_requests", "The latest requests to end, by how.", ("state",), _by_one(found.ended))
    text = "The done ones of those, by what answered them: hit, joined or miss."
    yield _gauge("answered_requests", text, ("cache",), _by_one(found.answers))
    text = "Leases on the generations of these and of the live requests: claimed, retried, expired."
    leases = {"claimed": found.claims, "retried": found.retries, "expired": found.lease_expiries}
    yield _gauge("leases", text, ("event",), _by_one(leases))
    text = "Requests that failed for good and were not asked again."
    yield _gauge("dead_letters", text, (), [((), found.dead_letters)])
    yield _gauge("videos", "Videos that can be served.", (), [((), found.videos)])
    yield _gauge("video_bytes", "Bytes of the videos that can be served.", (), [((), found.video_bytes)])
    text = "The version that is served, 1."
    yield _gauge("champion", text, ("model", "version"), [(served, 1) for served in found.champions.items()])
    text = "How far this copy of another store is behind it."
    yield _gauge("replica_lag_seconds", text, ("source",), [((one.source,), one.lag_s) for one in found.replicas])
    text = "Counts that are too small because they were cut short, 1."
    yield _gauge("cut", text, ("what",), [((what,), 1) for what in found.cut])
    text = "Records of one of two stores that the other has yet to get, at least."
    missed = [] if found.backend.missed is None else [((), found.backend.missed)]
    yield _gauge("missed_records", text, (), missed)
    room = {"used": found.backend.bytes_used, "limit": found.backend.bytes_limit}
    known = {what: size for what, size in room.items() if size is not None}
    yield _gauge("backend_bytes", "Room that the backend uses, and has.", ("what",), _by_one(known))
    yield _gauge("backend_records", "Records of the backend.", ("kind",), _by_one(found.backend.records or {}))


Values = Iterable[tuple[Sequence[str], float]]
"""The values of its labels, and of a series."""


def _gauge(name: str, text: str, labels: Sequence[str], values: Values) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(f"videogen_store_{name}", text, labels=labels)
    for at, value in values:
        family.add_metric(at, value)
    return family


def _by_one(counts: Mapping[Any, float]) -> Values:
    return [((name,), value) for name, value in counts.items()]


def _by_tenant(found: StoreStats) -> Values:
    sizes = Counter[str]()
    for one in found.requests:
        sizes[one.tenant] += one.requests
    named = {tenant for tenant, _ in sizes.most_common(MOST_TENANTS)}
    counts = Counter[tuple[str, ...]]()
    for one in found.requests:
        counts[one.lane, one.state, one.tenant if one.tenant in named else OTHERS] += one.requests
    return counts.items()


def _of_cache(found: StoreStats) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    cache = found.cache
    if cache is None:
        return
    start = "videogen_video_cache_"
    yield GaugeMetricFamily(f"{start}bytes", "Bytes of videos in this process's memory.", value=cache.bytes)
    yield GaugeMetricFamily(f"{start}videos", "Videos in this process's memory.", value=cache.videos)
    hits = CounterMetricFamily(f"{start}hits", "Reads of a video, by what answered: memory, store.", labels=("tier",))
    hits.add_metric(("memory",), cache.hits)
    hits.add_metric(("store",), cache.loads)
    yield hits
    for name, text, value in (
        ("misses", "Reads of a video that is not there.", cache.misses - cache.loads),
        ("evictions", "Videos that made room for others.", cache.evictions),
        ("gpu_seconds_saved", "What the hits would have cost to make again.", cache.gpu_seconds_saved),
    ):
        yield CounterMetricFamily(f"{start}{name}", text, value=value)
