"""Records in Redis: a hash per record and a sorted set for its map, changed by one script on the server.

A write is one call of `write.lua`, so it happens whole or not at all, at a time that the server's clock tells.
Redis answers before it has written to disk: with `appendfsync everysec`, a crash of its machine costs the last second
of accepted writes, and without an append-only file it costs everything since the last snapshot.
"""

import contextlib
import hashlib
import itertools
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from videogen.errors import InvalidStoreUrl, RecordDamaged, StoreInDoubt, StoreUnavailable
from videogen.findings import Finding
from videogen.store.backends.doubt import fault, look_again, write_ids
from videogen.store.backends.urls import url_options
from videogen.store.primitives import (
    Add,
    BackendFacts,
    Condition,
    Either,
    Every,
    Is,
    MapIs,
    MapPut,
    MapRemove,
    Operation,
    Record,
    RecordStore,
    Set,
    SetPayload,
    Unwritten,
    Value,
    Write,
    undamaged,
)

NAMESPACE = "videogen"
SCRIPT = Path(__file__).with_name("write.lua")
CONNECT_S, ANSWER_S = 2.0, 3.0
SEPARATOR = "\0"
WRITTEN, PAYLOAD, WRITE_ID, BIN = b"w", b"p", b"i", b"b:"
AHEAD_S = 1.0
"""A record from farther in the future than this was written before the server's clock was set back."""
KEYS_PER_CALL = 256
ENCODER = json.JSONEncoder(separators=(",", ":"))
Command = list[Any]


class RedisRecordStore(RecordStore):
    """The records under `namespace` of the server that `url` names: redis://[user:password@]host[:port][/number].

    `?namespace=NAME` goes with the URL, "videogen" by default.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError as error:
            raise StoreUnavailable(f"{error}; it comes with: pip install '.[redis]' in the checkout") from error
        parts = urlsplit(url)
        self._namespace = url_options(url, ("namespace",)).get("namespace", NAMESPACE)
        if not re.fullmatch(r"(/[0-9]*)?", parts.path) or not parts.hostname or parts.fragment:
            raise InvalidStoreUrl(url, "redis://[<user>:<password>@]<host>[:6379][/<number>], the number a database's")
        self._where, self._errors = f"{parts.scheme}://{parts.hostname}:{parts.port or 6379}{parts.path}", redis
        with self._asking():
            self._redis = redis.Redis.from_url(
                parts._replace(query="").geturl(),
                socket_connect_timeout=CONNECT_S,
                socket_timeout=ANSWER_S,
                health_check_interval=30,
                retry=Retry(NoBackoff(), 0),  # it would repeat a write that may have happened
            )
            self._redis.ping()
        self._script, self._ids = SCRIPT.read_text(), write_ids()
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    def now(self) -> float:
        with self._asking():
            return _seconds(self._redis.time())

    def read(self, kind: str, key: str, aged: bool = False) -> Record | None:
        return super().read(kind, key, aged) if aged else undamaged(self._one(kind, key))

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        if not aged:
            return self.read_each([(kind, key) for key in keys])
        found: list[Record | RecordDamaged | None] = []
        for first in range(0, len(keys), KEYS_PER_CALL):
            with self._asking():
                pipe = self._redis.pipeline(transaction=False)
                pipe.time()
                for key in keys[first : first + KEYS_PER_CALL]:
                    pipe.hgetall(self._name(kind, key))
                    pipe.pttl(self._name(kind, key))
                now, *answers = pipe.execute(raise_on_error=False)
                if isinstance(now, Exception):
                    raise now
            part = zip(keys[first : first + KEYS_PER_CALL], answers[::2], answers[1::2], strict=True)
            found += [_record(f"{kind} {key}", fields, _seconds(now), ms) for key, fields, ms in part]
        return found

    def read_each(self, names: Sequence[tuple[str, str]]) -> list[Record | RecordDamaged | None]:
        found: list[Record | RecordDamaged | None] = []
        for first in range(0, len(names), KEYS_PER_CALL):
            part = names[first : first + KEYS_PER_CALL]
            if len(part) == 1:
                return [*found, self._one(*part[0])]
            told = zip(part, self._hashes(part), strict=True)
            found += [_record(f"{kind} {key}", fields) for (kind, key), fields in told]
        return found

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        found: list[Record | None] = []
        for first in range(0, len(writes), KEYS_PER_CALL):
            found += self._write_some(writes[first : first + KEYS_PER_CALL])
        return found

    def _write_some(self, writes: Sequence[Write]) -> list[Record | None]:
        ids = [next(self._ids) for _ in writes]
        calls = [self._call(write, write_id) for write, write_id in zip(writes, ids, strict=True)]
        try:
            with self._asking():
                answers = self._run(calls)
                missing = self._errors.exceptions.NoScriptError
                unknown = [at for at, answer in enumerate(answers) if isinstance(answer, missing)]
                if unknown:  # those did nothing yet: the server is new, or was started again
                    self._redis.script_load(self._script)
                    for at, answer in zip(unknown, self._run([calls[at] for at in unknown]), strict=True):
                        answers[at] = answer
                for answer in answers:
                    if isinstance(answer, Exception):
                        raise answer
        except StoreInDoubt as doubt:
            return self._read_back(writes, ids, doubt)
        told = zip(writes, answers, strict=True)
        return [None if answer is None else write.told(_counts(answer)) for write, answer in told]

    def _one(self, kind: str, key: str) -> Record | RecordDamaged | None:
        with self._asking():
            try:
                fields = self._redis.hgetall(self._name(kind, key))
            except self._errors.ResponseError as error:  # a key of another type
                fields = error
        return _record(f"{kind} {key}", fields)

    def _call(self, write: Write, write_id: str) -> list[Command]:
        """The commands of one write, which are one transaction if they are several."""
        name = self._name(write.kind, write.key)
        if (apart := _payload_apart(write)) is None:
            return [["EVALSHA", self._sha, 2, name, f"{name}:map", *_arguments(write, write_id)]]
        payload, rest = apart
        # The whole script: one that the server does not know would not keep the payload from being written.
        script = ["EVAL", self._script, 2, name, f"{name}:map", *_arguments(rest, write_id)]
        return [["MULTI"], script, ["HSET", name, PAYLOAD, payload], ["EXEC"]]

    def _run(self, calls: Sequence[Sequence[Command]]) -> list[Any]:
        """The script's answer to each call, or the first error."""
        if len(calls) == len(calls[0]) == 1:
            try:
                return [self._redis.execute_command(*calls[0][0])]
            except self._errors.ResponseError as error:
                return [error]
        pipe = self._redis.pipeline(transaction=False)
        for command in itertools.chain(*calls):
            pipe.execute_command(*command)
        answers = iter(pipe.execute(raise_on_error=False))
        return [_outcome(list(itertools.islice(answers, len(call)))) for call in calls]

    def _read_back(self, writes: Sequence[Write], ids: Sequence[str], doubt: StoreInDoubt) -> list[Record | None]:
        """What became of writes whose answer was lost. Raises `doubt` unless every one of them is found written."""

        def look() -> list[Record | None] | None:
            hashes = self._hashes([(write.kind, write.key) for write in writes])
            found = zip(hashes, ids, strict=True)
            if any(isinstance(fields, Exception) or fields.get(WRITE_ID) != one.encode() for fields, one in found):
                return None
            return [write.told(_bins(fields)) for write, fields in zip(writes, hashes, strict=True)]

        return look_again(look, doubt)

    def _hashes(self, names: Sequence[tuple[str, str]]) -> list[Any]:
        """What each holds, or the error that the server gave instead."""
        with self._asking():
            pipe = self._redis.pipeline(transaction=False)
            for name in names:
                pipe.hgetall(self._name(*name))
            return pipe.execute(raise_on_error=False)

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        low = f"[{after}\1" if after else "-"
        with self._asking():
            return _entries(self._redis.zrangebylex(f"{self._name(kind, key)}:map", low, "+", start=0, num=limit))

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        with self._asking():
            pipe = self._redis.pipeline(transaction=False)
            for key in keys:
                pipe.zrangebylex(f"{self._name(kind, key)}:map", "-", "+", start=0, num=limit)
            return [_entries(members) for members in pipe.execute()]

    def names(self) -> Iterator[tuple[str, str]]:
        return self._scan("")

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        found = (key for _, key in self._scan(f"{kind}:"))
        return found if since <= 0 else self._written_since(kind, found, since)

    def _scan(self, start: str) -> Iterator[tuple[str, str]]:
        first, last = f"{self._namespace}:{{", "}"
        with self._asking():
            for name in self._redis.scan_iter(match=f"{_literal(first + start)}*", count=KEYS_PER_CALL):
                text = _str(name)
                if text.endswith(last):  # the others are maps
                    kind, _, key = text[len(first) : -len(last)].partition(":")
                    yield kind, key

    def flush(self) -> None:
        """Waits for an append-only file to reach the disk, where the server has one and can say so (Redis 7.2).

        The server waits for what came over the same connection and no other: what other processes wrote, or other
        threads, is on disk no later than `appendfsync` says.
        """
        with self._asking(), contextlib.suppress(self._errors.ResponseError):
            self._redis.execute_command("WAITAOF", 1, 0, int(1000 * ANSWER_S / 2))

    def purge(self) -> int:
        """Redis removes what has expired by itself."""
        return 0

    def facts(self) -> BackendFacts:
        with self._asking():
            info: Any = self._redis.info()
        limit = info.get("maxmemory") or None
        return BackendFacts(self._where, f"Redis {info.get('redis_version')}", info.get("used_memory"), limit)

    def examine(self) -> list[Finding]:
        from videogen.store.backends.redis import doctor

        with self._asking():
            info: Any = self._redis.info()
            skew = time.time() - self.now()
        try:
            with self._asking():
                settings: Any = self._redis.config_get("*")
        except StoreUnavailable:  # a hosted Redis may refuse it
            settings = {}
        return doctor.examine(info, {_str(k): _str(v) for k, v in settings.items()}, skew, self._where)

    def close(self) -> None:
        self._redis.close()

    def _name(self, kind: str, key: str) -> str:
        """The braces put a record and its map on one node of a Redis Cluster."""
        return f"{self._namespace}:{{{kind}:{key}}}"

    def _asking(self) -> "_Asking":
        return _Asking(self._where, self._errors)


class _Asking:
    """A server's errors as ours. A class, for it is in every call's way."""

    __slots__ = ("_errors", "_where")

    def __init__(self, where: str, errors: Any) -> None:
        self._where, self._errors = where, errors

    def __enter__(self) -> None:
        """There is nothing to do."""

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, self._errors.RedisError):
            in_doubt = isinstance(error, self._errors.TimeoutError | self._errors.ConnectionError)
            raise fault(f"{self._where}: {error}", in_doubt) from error


def _arguments(write: Write, write_id: str) -> list[str | bytes]:
    ttl = "" if write.ttl is None else str(max(1, round(1000 * write.ttl)) if write.ttl else 0)
    when = "" if write.when is None else json.dumps(_tree(write.when), ensure_ascii=False)
    arguments: list[str | bytes] = [write.create, ttl, when, write_id]
    for operation in write.operations:
        arguments += _operation(operation)
    return arguments


def _operation(operation: Operation) -> tuple[str, str | bytes, str]:
    match operation:
        case Set(bin, value):
            return "set", bin, _text(value)
        case Add(bin, amount):
            return "add", bin, str(amount)
        case SetPayload(payload):
            return "payload", payload, ""
        case MapPut(key, value):
            return "map_put", key, value
        case MapRemove(key):
            return "map_remove", key, ""


def _tree(condition: Condition) -> list:
    """A condition as the script reads it."""
    match condition:
        case Is(bin, value):
            return ["is", bin, _text(value)]
        case Unwritten(seconds_bin):
            return ["unwritten", seconds_bin]
        case MapIs(key, value):
            return ["map_is", key, value]
        case Every(parts):
            return ["every", [_tree(part) for part in parts]]
        case Either(parts):
            return ["either", [_tree(part) for part in parts]]


def _text(value: Value) -> str:
    return ENCODER.encode(value)


def _literal(text: str) -> str:
    """The pattern that only this text matches."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


def _str(text: bytes | str) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _seconds(now: tuple[int, int]) -> float:
    return now[0] + now[1] / 1e6


def _record(name: str, fields: Any, now: float = math.nan, left_ms: int = -1) -> Record | RecordDamaged | None:
    """What a hash holds, None if there is none; `fields` may be the error that the server gave instead."""
    if isinstance(fields, Exception):
        return RecordDamaged(f"{name}: {fields}")
    if not fields:
        return None
    try:
        age = now - float(fields[WRITTEN])
        bins = _bins(fields)
    except (KeyError, ValueError) as error:
        return RecordDamaged(f"{name}: {error!r}")
    if age < -AHEAD_S:
        age = math.inf
    elif age < 0:
        age = 0.0
    return Record(bins, fields.get(PAYLOAD), age, left_ms / 1000 if left_ms >= 0 else None)


def _entries(members: Any) -> list[tuple[str, str]]:
    entries = (member.decode(errors="replace").partition(SEPARATOR) for member in members)
    return [(entry, value) for entry, _, value in entries]


def _bins(fields: Mapping[bytes, bytes]) -> dict[str, Value]:
    """Raises ValueError for what no write puts there."""
    start = len(BIN)
    return {name[start:].decode(): json.loads(text.decode()) for name, text in fields.items() if name[:start] == BIN}


def _counts(answer: Sequence[bytes]) -> dict[str, Value]:
    """What the script says of the bins that a write adds to."""
    return {name.decode(): json.loads(text) for name, text in zip(answer[::2], answer[1::2], strict=True)}


def _payload_apart(write: Write) -> tuple[bytes, Write] | None:
    """The payload of a write that cannot be refused, and what is left of it: a script copies what it is given."""
    payloads = [operation.payload for operation in write.operations if isinstance(operation, SetPayload)]
    if not payloads or write.create != "allow" or write.counted:
        return None
    rest = tuple(operation for operation in write.operations if not isinstance(operation, SetPayload))
    return payloads[-1], replace(write, operations=rest)


def _outcome(answers: Sequence[Any]) -> Any:
    """Of a call's commands: the first error, else the script's answer. EXEC answers for all between it and MULTI."""
    errors = [answer for answer in answers if isinstance(answer, Exception)]
    if errors or len(answers) == 1:
        return errors[0] if errors else answers[0]
    return _outcome(answers[-1][:1])
