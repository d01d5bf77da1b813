"""Records in Aerospike: one record each, bins and map together, changed by one multi-operation under a filter.

What a write may do is decided on the server, by an expression over the record's bins and the time since its last
update, so no client's clock takes part. Everything used here is in the community edition; a node of it answers before
it has written to disk, and deleted records may come back after its restart: that a record exists proves nothing.
"""

import contextlib
import itertools
import math
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from videogen.errors import InvalidStoreUrl, RecordDamaged, StoreConflict, StoreInDoubt, StoreUnavailable
from videogen.findings import Finding
from videogen.store.backends.aerospike.bins import AGE, MAP, OURS, PAYLOAD, WRITE_ID
from videogen.store.backends.aerospike.doctor import pairs
from videogen.store.backends.doubt import fault, look_again, write_ids
from videogen.store.backends.urls import url_options
from videogen.store.contention import until_swapped
from videogen.store.primitives import BackendFacts, Record, RecordStore, Write, undamaged

PORT = 3000
ANSWER_MS, ATTEMPT_MS = 3000, 1000
KEYS_PER_CALL, CHUNKS_PER_CALL = 256, 8
OK, NOT_FOUND, EXISTS, INCOMPATIBLE, BUSY, FILTERED_OUT = 0, 2, 5, 12, 14, 27
REFUSED = (NOT_FOUND, EXISTS, FILTERED_OUT)
NO_RESPONSE = -15
"""A batch ended without an answer for this record: a write of it may have happened."""
READS_OF_A_CHANGING_RECORD = 5
MEDIA_KINDS = frozenset({"video", "chunk"})
CLOCK = "clock"
NO_TTL = 2**32 - 1
NAMES_PER_PAGE = 1000
VALUE_TYPES = frozenset({bool, int, float, str, list})


class AerospikeRecordStore(RecordStore):
    """The records that `url` names: aerospike://[user:password@]host[:port][,host[:port]…]/namespace.

    `?media=NAMESPACE` keeps videos in a namespace of their own. `?prefix=TEXT` and a dot begin the names of all sets:
    several stores in one namespace have one each, and at most one has none. A kind of record has no dot in its name.
    """

    def __init__(self, url: str) -> None:
        try:
            import aerospike
            from aerospike import exception

            from videogen.store.backends.aerospike import dialect
        except ImportError as error:
            raise StoreUnavailable(f"{error}; it comes with: pip install '.[aerospike]' in the checkout") from error
        self._aerospike, self._errors, self._dialect = aerospike, exception, dialect
        self._refusals = (exception.RecordNotFound, exception.RecordExistsError, exception.FilteredOut)
        self._ids = write_ids()
        parts, options = urlsplit(url), url_options(url, ("media", "prefix"))
        self._namespace = parts.path.strip("/")
        if not self._namespace or "/" in self._namespace or not parts.netloc or parts.fragment:
            raise InvalidStoreUrl(url, "aerospike://<host>[:3000][,<host>…]/<namespace>")
        self._media = options.get("media", self._namespace)
        self._prefix = f"{options['prefix']}." if "prefix" in options else ""
        self._where = f"aerospike://{parts.netloc.rpartition('@')[2]}/{self._namespace}"
        self._settings, self._latest = _settings(parts.netloc), 0.0
        self._pid, self._opened = os.getpid(), self._open()

    def _open(self) -> Any:
        with self._asking():
            return self._aerospike.client(self._settings)

    @property
    def client(self) -> Any:
        """One client per process: its connections must not cross a fork."""
        if self._pid != os.getpid():
            self._pid, self._opened = os.getpid(), self._open()
        return self._opened

    def now(self) -> float:
        key = (self._namespace, f"{self._prefix}{CLOCK}", CLOCK)
        with self._asking():
            try:
                bins = self.client.operate(key, self._dialect.CLOCK_READS)[2]
            except self._errors.RecordNotFound:
                self.client.put(key, {"is": CLOCK}, policy=self._dialect.CLOCK_POLICY)
                bins = self.client.operate(key, self._dialect.CLOCK_READS)[2]
        self._latest = max(self._latest, bins["at"] / 1e9 + bins["since"] / 1e3)
        return self._latest

    def read(self, kind: str, key: str, aged: bool = False) -> Record | None:
        return super().read(kind, key, aged) if aged else undamaged(self._one(kind, key))

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        if not aged:
            return self._bare(kind, keys)
        found: dict[str, Record | RecordDamaged | None] = {}
        left = list(dict.fromkeys(keys))
        for _ in range(READS_OF_A_CHANGING_RECORD):
            changed: list[str] = []
            for first in range(0, len(left), size := _batch_size(kind)):
                changed += self._read_some(kind, left[first : first + size], found)
            if not (left := changed):
                break
        return [found[key] for key in keys]

    def _bare(self, kind: str, keys: Sequence[str]) -> list[Record | RecordDamaged | None]:
        if len(keys) == 1:
            return [self._one(kind, keys[0])]
        found: list[Record | RecordDamaged | None] = []
        for first in range(0, len(keys), size := _batch_size(kind)):
            part = keys[first : first + size]
            results = self._together(self._dialect.reads(self._key(kind, key) for key in part))
            for key, result in zip(part, results, strict=True):
                there = self._is_there(kind, key, result)
                found.append(_record(f"{kind} {key}", result.record[2], math.nan) if there else None)
        return found

    def _one(self, kind: str, key: str) -> Record | RecordDamaged | None:
        bins = self._bins(kind, key)
        return None if bins is None else _record(f"{kind} {key}", bins, math.nan)

    def _read_some(self, kind: str, keys: Sequence[str], found: dict[str, Record | RecordDamaged | None]) -> list[str]:
        """Reads records into `found`; gives the keys of those that changed between their age and their bins."""
        results = self._together(self._dialect.aged_reads(self._key(kind, key) for key in keys))
        changed = []
        for key, age, bins in zip(keys, results[::2], results[1::2], strict=True):
            both = [self._is_there(kind, key, result) for result in (age, bins)]
            if not all(both):
                found[key] = None
                continue
            found[key] = _record(f"{kind} {key}", bins.record[2], age.record[2][AGE] / 1000, bins.record[1]["ttl"])
            if age.record[1]["gen"] != bins.record[1]["gen"]:
                changed.append(key)
        return changed

    def _is_there(self, kind: str, key: str, result: Any) -> bool:
        if result.result not in (OK, NOT_FOUND):
            raise StoreUnavailable(f"{self._where}: {kind} {key}: error {result.result} of the server")
        return result.result == OK

    def write(self, write: Write) -> Record | None:
        return self._write_one(write, next(self._ids))

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        if len(writes) == 1:
            return [self.write(writes[0])]
        found: list[Record | None] = []
        for _, group in itertools.groupby(writes, lambda write: write.kind in MEDIA_KINDS):
            alike = list(group)
            for first in range(0, len(alike), size := _batch_size(alike[0].kind)):
                found += self._write_some(alike[first : first + size])
        return found

    def _write_some(self, writes: Sequence[Write]) -> list[Record | None]:
        ids = [next(self._ids) for _ in writes]
        told = [self._told(write, write_id) for write, write_id in zip(writes, ids, strict=True)]
        results = self._together(self._dialect.writes(told))
        found: list[Record | None] = []
        for write, write_id, result in zip(writes, ids, results, strict=True):
            if result.result in (OK, *REFUSED):
                found.append(write.told(result.record[2] or {}) if result.result == OK else None)
            elif result.result in (INCOMPATIBLE, BUSY):
                found.append(self._write_one(write, write_id, any_bin=result.result == INCOMPATIBLE))
            else:
                error = f"{self._where}: {write.kind} {write.key}: error {result.result} of the server"
                in_doubt = result.in_doubt or result.result == NO_RESPONSE
                found.append(self._read_back(write, write_id, fault(error, in_doubt)))
        return found

    def _write_one(self, write: Write, write_id: str, any_bin: bool = False) -> Record | None:
        """One write; while its record is too busy, which means that nothing was done, it is tried again."""
        try:
            return self._write_once(write, write_id, any_bin)
        except self._errors.RecordBusy:
            return self._write_patiently(write, write_id, any_bin)

    def _write_patiently(self, write: Write, write_id: str, any_bin: bool) -> Record | None:
        def attempt() -> tuple[Record | None] | None:
            try:
                return (self._write_once(write, write_id, any_bin),)
            except self._errors.RecordBusy:
                return None

        try:
            return until_swapped(attempt, f"{self._where}: {write.kind} {write.key}")[0]
        except StoreConflict as error:
            raise StoreUnavailable(str(error)) from error

    def _write_once(self, write: Write, write_id: str, any_bin: bool) -> Record | None:
        try:
            if (bins := self._dialect.bins(write, write_id)) is not None:  # half the cost of a multi-operation here
                self.client.put(self._key(write.kind, write.key), bins, policy=self._dialect.policy(write))
                return write.told({})
            key, operations, policy = self._told(write, write_id, any_bin)
            return write.told(self.client.operate(key, operations, policy=policy)[2] or {})
        except self._refusals:
            return None
        except self._errors.RecordBusy:
            raise
        except self._errors.BinIncompatibleType as error:
            if any_bin:
                raise self._fault(error) from error
            return self._write_once(write, write_id, any_bin=True)
        except self._errors.AerospikeError as error:
            return self._read_back(write, write_id, self._fault(error))

    def _told(
        self, write: Write, write_id: str, any_bin: bool = False
    ) -> tuple[Any, list[dict[str, Any]], dict[str, Any]]:
        """A write as the client takes it: key, operations, policy."""
        key = self._key(write.kind, write.key)
        return key, self._dialect.operations(write, write_id, any_bin), self._dialect.policy(write)

    def _read_back(self, write: Write, write_id: str, error: StoreUnavailable) -> Record:
        """What became of a write whose answer was lost. Raises `error` unless the record says that it is its last."""
        if not isinstance(error, StoreInDoubt):
            raise error

        def look() -> Record | None:
            bins = self._bins(write.kind, write.key)
            return write.told(bins) if bins and bins.get(WRITE_ID) == write_id else None

        return look_again(look, error)

    def _bins(self, kind: str, key: str) -> dict[str, Any] | None:
        try:
            return self.client.get(self._key(kind, key))[2]
        except self._errors.RecordNotFound:
            return None
        except self._errors.AerospikeError as error:
            raise self._fault(error) from error

    def _together(self, asked: Any) -> Sequence[Any]:
        """The results of a batch. Raises StoreInDoubt where the client says OK and no server has answered.

        So it does while it knows no node for a key: the result is 0, and the generation, which starts at 1, is 0 too.
        """
        with self._asking():
            results = self.client.batch_write(asked).batch_records
        if any(result.result == OK and not result.record[1]["gen"] for result in results):
            raise StoreInDoubt(f"{self._where}: no node answers for some of {len(results)} records")
        return results

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        with self._asking():
            try:
                bins = self.client.operate(self._key(kind, key), [self._dialect.page(after, limit)])[2]
            except self._errors.RecordNotFound:
                return []
        return [entry for entry in _entries(bins) if entry[0] > after][:limit]

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        if not keys:
            return []
        results = self._together(self._dialect.heads((self._key(kind, key) for key in keys), limit))
        told = zip(keys, results, strict=True)
        return [_entries(result.record[2]) if self._is_there(kind, key, result) else [] for key, result in told]

    def names(self) -> Iterator[tuple[str, str]]:
        for namespace in dict.fromkeys((self._namespace, self._media)):
            for kind in self._kinds(namespace):
                yield from ((kind, key) for key in self._query(namespace, kind, {}))

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        policy = {"expressions": self._dialect.written_since(since)} if since > 0 else {}
        return self._query(self._key(kind, "")[0], kind, policy)

    def _query(self, namespace: str, kind: str, policy: dict[str, Any]) -> Iterator[str]:
        with self._asking():
            query = self.client.query(namespace, f"{self._prefix}{kind}")
            query.max_records = NAMES_PER_PAGE
            query.paginate()
            while not query.is_done():
                found = (key[2] for key, *_ in query.results(policy, {"nobins": True}))
                yield from (key for key in found if key is not None)  # what has none is not a store's

    def _kinds(self, namespace: str) -> list[str]:
        return sorted(self._sets(namespace))

    def _sets(self, namespace: str) -> dict[str, int]:
        """Records of each kind, all copies on all nodes counted."""
        found: dict[str, int] = {}
        for line in ";".join(self._info(f"sets/{namespace}").values()).split(";"):
            facts = dict(part.partition("=")[::2] for part in line.split(":"))
            name = facts.get("set", "")
            kind = name.removeprefix(self._prefix)
            if kind and name.startswith(self._prefix) and "." not in kind:  # else it is another store's
                found[kind] = found.get(kind, 0) + int(facts.get("objects", 0))
        found.pop(CLOCK, None)
        return found

    def _info(self, command: str) -> dict[str, str]:
        with self._asking():
            return {node: answer.strip() for node, (_, answer) in self.client.info_all(command).items()}

    def facts(self) -> BackendFacts:
        counts: dict[str, int] = {}
        used = limit = 0
        for namespace in dict.fromkeys((self._namespace, self._media)):
            nodes = [pairs(text) for text in self._info(f"namespace/{namespace}").values()]
            copies = max(int(node.get("effective_replication_factor", 1)) for node in nodes)
            used += sum(int(node.get("data_used_bytes", 0)) for node in nodes)
            limit += sum(int(node.get("data_total_bytes", 0)) for node in nodes)
            for kind, objects in self._sets(namespace).items():
                counts[kind] = counts.get(kind, 0) + objects // max(copies, 1)
        builds = ", ".join(sorted(set(self._info("build").values())))
        return BackendFacts(self._where, f"Aerospike {builds}", used, limit or None, counts)

    def flush(self) -> None:
        """Nothing to wait for: the community edition cannot be asked. See `flush-max-ms` and `replication-factor`."""

    def purge(self) -> int:
        """The server removes what has expired by itself, every `nsup-period` seconds."""
        return 0

    def examine(self) -> list[Finding]:
        from videogen.store.backends.aerospike import doctor

        names = tuple(dict.fromkeys((self._namespace, self._media)))
        there = {name for answer in self._info("namespaces").values() for name in answer.split(";")}
        skew = 0.0
        with contextlib.suppress(StoreUnavailable):  # a full server may not even let its clock be asked
            skew = time.time() - self.now() if self._namespace in there else 0.0
        return doctor.examine(doctor.look(self._info, names, skew, self._where))

    def close(self) -> None:
        if self._pid == os.getpid():
            self._opened.close()

    def _key(self, kind: str, key: str) -> tuple[str, str, str]:
        return self._media if kind in MEDIA_KINDS else self._namespace, f"{self._prefix}{kind}", key

    @contextlib.contextmanager
    def _asking(self) -> Generator[None]:
        try:
            yield
        except self._refusals:
            raise
        except self._errors.AerospikeError as error:
            raise self._fault(error) from error

    def _fault(self, error: Any) -> StoreUnavailable:
        return fault(f"{self._where}: {type(error).__name__} {error.code}: {error.msg}", error.in_doubt)


def _settings(netloc: str) -> dict[str, Any]:
    """The client's: unknown names in it are refused, a write is never repeated by itself."""
    from aerospike import POLICY_READ_MODE_AP_ALL

    credentials, _, hosts = netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    pairs = [host.partition(":")[::2] for host in hosts.split(",")]
    wait = {"total_timeout": ANSWER_MS, "socket_timeout": ATTEMPT_MS}
    # While a node that was away takes its records back, it has not all of them: both are asked, until it has.
    both = wait | {"read_mode_ap": POLICY_READ_MODE_AP_ALL}
    read, write = both | {"max_retries": 2}, both | {"max_retries": 0}
    settings: dict[str, Any] = {
        "hosts": [(host, int(port or PORT)) for host, port in pairs],
        "validate_keys": True,
        "policies": {
            "read": read,
            "write": wait | {"max_retries": 0},
            "operate": write,
            "batch": read,
            "batch_parent_write": write,
        },
    }
    return settings | ({"user": user, "password": password} if user else {})


def _batch_size(kind: str) -> int:
    """Records in one call: few where each may hold most of a mebibyte."""
    return CHUNKS_PER_CALL if kind in MEDIA_KINDS else KEYS_PER_CALL


def _record(name: str, bins: dict[str, Any], age: float, ttl: int = NO_TTL) -> Record | RecordDamaged:
    """`bins` become the record's."""
    payload = bins.pop(PAYLOAD, None)
    for other in OURS:
        bins.pop(other, None)
    if not VALUE_TYPES.issuperset(map(type, bins.values())) or not isinstance(payload, bytes | None):
        odd = ", ".join(one for one, value in bins.items() if type(value) not in VALUE_TYPES)
        return RecordDamaged(f"{name}: {odd or PAYLOAD} is of a type that no write puts there")
    return Record(bins, payload, age, None if ttl == NO_TTL else float(ttl))


def _entries(bins: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat = bins.get(MAP) or []
    return list(zip(flat[::2], flat[1::2], strict=True))
