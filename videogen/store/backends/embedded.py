"""Records in one SQLite file that several processes of one machine share.

Writes are in the write-ahead log before they are acknowledged, so a killed process loses none of them; `flush` makes
them survive a power cut too. A power cut takes back the latest writes since then, never one without those after it.
The folder must lie on a local file system.

Writers of one process queue up at a lock of their own: whom SQLite finds waiting it lets sleep, ever longer, past the
time at which it could go on.
"""

import json
import os
import sqlite3
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from videogen.errors import RecordDamaged, StoreUnavailable
from videogen.findings import Finding
from videogen.locks import file_lock
from videogen.store.backends.clock import boot_id, boot_seconds, continued_offset
from videogen.store.backends.semantics import allows, applied
from videogen.store.backends.synced_log import SyncedLog
from videogen.store.primitives import BackendFacts, MapPut, MapRemove, Record, RecordStore, Write

FILE = "store.db"
BUSY_SECONDS = 60.0
KEYS_PER_QUERY = 500
MANY_HEADS = 64
"""Of so many maps, those of a journal's hours, most are not there: which are is asked first."""
ENCODER = json.JSONEncoder(separators=(",", ":"))
COLUMNS = "written, expires, bins, payload"
ONE = f"SELECT {COLUMNS} FROM records WHERE kind = ? AND key = ?"
# An update leaves alone the pages of the indices, but for the expiry's where that is named; a replacement does not.
PUT = f"INSERT INTO records (kind, key, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET"
PUT_ALL = f"{PUT} written = ?3, expires = ?4, bins = ?5, payload = ?6"
PUT_IN_PLACE = f"{PUT} written = ?3, bins = ?5, payload = ?6"
PUT_NEW = f"INSERT INTO records (kind, key, {COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
OF_A_MAP = "WHERE kind = ?1 AND key = ?2 AND bins = '{}' AND payload IS NULL AND (expires IS NULL OR expires > ?3)"
TOUCH = f"UPDATE records SET written = ?3 {OF_A_MAP}"
TOUCH_ALL = f"UPDATE records SET written = ?3, expires = ?4 {OF_A_MAP}"
MAP_PAGE = (
    "SELECT entry, value FROM maps WHERE kind = ?1 AND key = ?2 AND entry > ?3 AND EXISTS (SELECT 1 FROM records "
    "WHERE kind = ?1 AND key = ?2 AND (expires IS NULL OR expires > ?4)) ORDER BY entry LIMIT ?5"
)
SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  kind TEXT NOT NULL, key TEXT NOT NULL, written REAL NOT NULL, expires REAL, bins TEXT NOT NULL, payload BLOB,
  PRIMARY KEY (kind, key));
CREATE INDEX IF NOT EXISTS expiring ON records (expires) WHERE expires IS NOT NULL;
CREATE TABLE IF NOT EXISTS maps (
  kind TEXT NOT NULL, key TEXT NOT NULL, entry TEXT NOT NULL, value TEXT NOT NULL,
  PRIMARY KEY (kind, key, entry)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS clock (
  id INTEGER PRIMARY KEY CHECK (id = 1), boot TEXT NOT NULL, booted REAL NOT NULL, offset REAL NOT NULL);
"""


class EmbeddedRecordStore(RecordStore):
    """The records in `folder`, which is made if it isn't there."""

    asks_a_server = False
    has_blocks = True

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / FILE
        self._idle: list[sqlite3.Connection] = []
        self._lock, self._pid = threading.Lock(), os.getpid()
        self._writing, self._log = threading.Lock(), SyncedLog(self.path.with_name(f"{FILE}-wal"))
        self._block = _Block()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreUnavailable(f"{self.path.parent}: {error.strerror}") from error
        # SQLite does not wait for others while a file changes to the write-ahead log, so the first ones queue up here.
        with file_lock(self.path.with_name("open.lock")):
            with self._connection() as connection:
                connection.execute("PRAGMA journal_mode = WAL")
            with self._transaction() as connection:
                for statement in SCHEMA.split(";"):
                    connection.execute(statement)
                self._offset = _clock_offset(connection)

    def now(self) -> float:
        return boot_seconds() + self._offset

    def read_many(self, kind: str, keys: Sequence[str], aged: bool = False) -> list[Record | RecordDamaged | None]:
        if len(keys) == 1:
            with self._connection() as connection:
                row = connection.execute(ONE, (kind, keys[0])).fetchone()
            now = self.now()
            return [None if row is None or _is_expired(row, now) else _record(kind, keys[0], row, now)]
        found: dict[str, Record | RecordDamaged] = {}
        with self._connection() as connection:
            for first in range(0, len(keys), KEYS_PER_QUERY):
                part = keys[first : first + KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, {COLUMNS} FROM records WHERE kind = ? AND key IN ({marks})"
                for key, *row in connection.execute(query, (kind, *part)):
                    if not _is_expired(row, now := self.now()):
                        found[key] = _record(kind, key, row, now)
        return [found.get(key) for key in keys]

    def write_many(self, writes: Sequence[Write]) -> list[Record | None]:
        # One transaction for speed alone: callers are promised no more than each write by itself.
        with self._transaction() as connection:
            return [self._write(connection, write) for write in writes]

    @contextmanager
    def together(self) -> Generator[None]:
        if self._block.connection is not None:
            yield
            return
        failed: Exception | None = None
        with self._transaction() as connection:
            self._block.connection = connection
            try:
                yield
            except StoreUnavailable:
                raise
            except Exception as error:
                failed = error
            finally:
                self._block.connection = None
        if failed is not None:
            raise failed

    def map_range(self, kind: str, key: str, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        with self._connection() as connection:
            return connection.execute(MAP_PAGE, (kind, key, after, self.now(), limit)).fetchall()

    def map_heads(self, kind: str, keys: Sequence[str], limit: int = 1000) -> list[list[tuple[str, str]]]:
        with self._connection() as connection:
            now = self.now()
            there = keys if len(keys) < MANY_HEADS else self._there(connection, kind, keys)
            found = {key: connection.execute(MAP_PAGE, (kind, key, "", now, limit)).fetchall() for key in there}
        return [found.get(key, []) for key in keys]

    def _there(self, connection: sqlite3.Connection, kind: str, keys: Sequence[str]) -> list[str]:
        there: list[str] = []
        for first in range(0, len(keys), KEYS_PER_QUERY):
            part = keys[first : first + KEYS_PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT key FROM records WHERE kind = ? AND key IN ({marks})"
            there += (key for (key,) in connection.execute(query, (kind, *part)))
        return there

    def names(self) -> Iterator[tuple[str, str]]:
        query = (
            "SELECT kind, key FROM records WHERE (kind, key) > (?, ?) AND (expires IS NULL OR expires > ?) "
            "ORDER BY kind, key LIMIT ?"
        )
        return self._walk(query, ("", ""))

    def keys(self, kind: str, since: float = 0.0) -> Iterator[str]:
        query = (
            "SELECT key FROM records WHERE kind = ?1 AND written >= ?2 AND key > ?3 AND (expires IS NULL OR "
            "expires > ?4) ORDER BY key LIMIT ?5"
        )
        return (key for (key,) in self._walk(query, ("",), (kind, since)))

    def _walk(self, query: str, last: tuple[str, ...], fixed: tuple = ()) -> Iterator[tuple]:
        """Rows of a query for those that come after `last`, a page at a time."""
        while True:
            with self._connection() as connection:
                page = connection.execute(query, (*fixed, *last, self.now(), KEYS_PER_QUERY)).fetchall()
            yield from page
            if not page:
                return
            last = page[-1]

    def flush(self) -> None:
        self._leave_parents_behind()
        try:
            self._log.sync()
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error.strerror}") from error

    def purge(self) -> int:
        with self._transaction() as connection:
            query = "SELECT kind, key FROM records WHERE expires <= ? LIMIT 1000"
            gone = connection.execute(query, (self.now(),)).fetchall()
            connection.executemany("DELETE FROM maps WHERE kind = ? AND key = ?", gone)
            connection.executemany("DELETE FROM records WHERE kind = ? AND key = ?", gone)
            return len(gone)

    def facts(self) -> BackendFacts:
        with self._connection() as connection:
            counts = dict(connection.execute("SELECT kind, COUNT(*) FROM records GROUP BY kind"))
        files = [self.path, self.path.with_name(f"{FILE}-wal")]
        used = sum(file.stat().st_size for file in files if file.exists())
        return BackendFacts(f"embedded:{self.path.parent}", f"SQLite {sqlite3.sqlite_version}", used, None, counts)

    def examine(self) -> list[Finding]:
        from videogen.store.backends import embedded_doctor as doctor

        folder = self.path.parent
        return list(doctor.examine(folder, self.facts().bytes_used or 0, doctor.file_system_of(folder)))

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        self._log.close()

    def _write(self, connection: sqlite3.Connection, write: Write) -> Record | None:
        name, now = (write.kind, write.key), self.now()
        if (done := _at_once(connection, write, now)) is not None:
            return done
        row = connection.execute(ONE, name).fetchone()
        if row is not None and _is_expired(row, now):
            connection.execute("DELETE FROM maps WHERE kind = ? AND key = ?", name)
            row = None
        before = _record(*name, row, now) if row is not None else None
        if isinstance(before, RecordDamaged):
            if write.create != "allow":
                return None
            before = None

        def map_get(entry: str) -> str | None:
            found = connection.execute(
                "SELECT value FROM maps WHERE kind = ? AND key = ? AND entry = ?", (*name, entry)
            )
            return next((value for (value,) in found), None)

        if not allows(write, before, map_get):
            return None
        after = applied(write.operations, before)
        expires = _expiry(write, now) if write.ttl is not None or row is None else row[1]
        query = PUT_IN_PLACE if row is not None and write.ttl is None else PUT_ALL
        connection.execute(query, (*name, now, expires, ENCODER.encode(after.bins), after.payload))
        _write_map(connection, write)
        return write.told(after.bins)

    def _connection(self) -> "_Lent":
        return _Lent(self, self._block.connection)

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection]:
        with self._connection() as connection:
            if self._block.connection is not None:
                yield connection
                return
            writing = self._writing
            if not writing.acquire(timeout=BUSY_SECONDS):
                raise StoreUnavailable(f"{self.path}: others have been writing for {BUSY_SECONDS:g} s")
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            finally:
                writing.release()

    def borrow(self) -> sqlite3.Connection:
        self._leave_parents_behind()
        try:
            return self._idle.pop()
        except IndexError:
            connection = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.text_factory = lambda raw: raw.decode(errors="replace")  # one damaged text must not fail a query
        return connection

    def _leave_parents_behind(self) -> None:
        """SQLite's connections must not cross a fork, not even to be closed, and nobody frees a parent's lock."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                self._abandoned, self._idle = self._idle, []
                self._writing, self._log = threading.Lock(), SyncedLog(self._log.path)
                self._pid = os.getpid()

    def give_back(self, connection: sqlite3.Connection) -> None:
        self._idle.append(connection)


class _Block(threading.local):
    """The thread's own: the connection of the block in which it writes, if it is in one."""

    connection: sqlite3.Connection | None = None


class _Lent:
    """A connection of one's own for a while; a broken one is not used again. A class, for it is in every call's way.

    The connection of a block stays the block's.
    """

    __slots__ = ("_connection", "_of_block", "_store")

    def __init__(self, store: EmbeddedRecordStore, of_block: sqlite3.Connection | None) -> None:
        self._store, self._of_block = store, of_block

    def __enter__(self) -> sqlite3.Connection:
        if self._of_block is not None:
            return self._of_block
        try:
            self._connection = self._store.borrow()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._store.path}: {error}") from error
        return self._connection

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._of_block is None and error is None:
            self._store.give_back(self._connection)
        elif self._of_block is None:
            self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise StoreUnavailable(f"{self._store.path}: {error}") from error


def _clock_offset(connection: sqlite3.Connection) -> float:
    """The boot clock's offset that all processes of this boot share; the first of a boot decides it."""
    here, seconds = boot_id(), boot_seconds()
    row = connection.execute("SELECT boot, booted, offset FROM clock").fetchone()
    if row is not None and row[0] == here and row[1] <= seconds:
        return row[2]
    last = connection.execute("SELECT MAX(written) FROM records").fetchone()[0]
    offset = continued_offset(last or 0.0)
    connection.execute(
        "INSERT OR REPLACE INTO clock (id, boot, booted, offset) VALUES (1, ?, ?, ?)", (here, seconds, offset)
    )
    return offset


def _is_expired(row: Sequence, now: float) -> bool:
    return row[1] is not None and row[1] <= now


def _record(kind: str, key: str, row: Sequence, now: float) -> Record | RecordDamaged:
    written, expires, text, payload = row
    try:
        bins = json.loads(text)
    except (TypeError, ValueError) as error:
        return RecordDamaged(f"{kind} {key}: {error}")
    if not isinstance(bins, dict) or not (payload is None or isinstance(payload, bytes)):
        return RecordDamaged(f"{kind} {key} is not a record")
    return Record(bins, payload, max(0.0, now - written), None if expires is None else expires - now)


def _expiry(write: Write, now: float) -> float | None:
    return now + write.ttl if write.ttl else None


def _at_once(connection: sqlite3.Connection, write: Write, now: float) -> Record | None:
    """What of the commonest writes needs no look at the record first; None if it was refused, and nothing changed."""
    if write.create == "only":
        after = applied(write.operations, None)
        row = (now, _expiry(write, now), ENCODER.encode(after.bins), after.payload)
        if not connection.execute(PUT_NEW, (write.kind, write.key, *row)).rowcount:
            return None
    elif write.when is None and all(isinstance(operation, MapPut | MapRemove) for operation in write.operations):
        query, expires = (TOUCH, ()) if write.ttl is None else (TOUCH_ALL, (_expiry(write, now),))
        if not connection.execute(query, (write.kind, write.key, now, *expires)).rowcount:
            return None
        after = Record()
    else:
        return None
    _write_map(connection, write)
    return write.told(after.bins)


def _write_map(connection: sqlite3.Connection, write: Write) -> None:
    name = (write.kind, write.key)
    for operation in write.operations:
        if isinstance(operation, MapPut):
            values = (*name, operation.key, operation.value)
            connection.execute("INSERT OR REPLACE INTO maps VALUES (?, ?, ?, ?)", values)
        elif isinstance(operation, MapRemove):
            values = (*name, operation.key)
            connection.execute("DELETE FROM maps WHERE kind = ? AND key = ? AND entry = ?", values)
