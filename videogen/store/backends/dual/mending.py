"""What puts two stores right again after one was away: in the background, or when somebody asks for it."""

import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from videogen.errors import StoreUnavailable, VideogenError
from videogen.store.backends.dual.missed import Missed
from videogen.store.backends.dual.settle import settle
from videogen.store.backends.dual.sides import Side
from videogen.store.moving.copying import OWN_KINDS, Name, Read
from videogen.store.moving.migration import Pair, Progress, Tally
from videogen.store.primitives import Is, Record, RecordStore, Set, Unwritten, Write, either

LOOK_S = 0.5
LAST = f"{OWN_KINDS}repair", "last"
LEASE_S = 10.0
"""A process that compares two stores and dies leaves it to the others after so long."""
BATCH = 64


class Closed(VideogenError):
    """The stores are being closed."""


def replay(primary: RecordStore, secondary: RecordStore, on_progress: Progress = lambda tally: None) -> int:
    """Gives the secondary what it missed; the number of records."""
    missed, done = Missed(primary), 0
    full = missed.full()
    marks = missed.marks()
    while part := list(itertools.islice(marks, BATCH)):
        settled = [mark for mark in part if settle(mark.name, primary, secondary, is_missed=True) != "busy"]
        missed.forget(settled)
        done += len(settled)
        on_progress(Tally(seen=done, copied=done))
    if full and repair(primary, secondary, on_progress).is_clean:
        missed.empty(full)
    return done


def repair(primary: RecordStore, secondary: RecordStore, on_progress: Progress = lambda tally: None) -> Tally:
    """Compares all records, and makes those the same that differ; `copied` counts them, either way.

    In the tally, `different` are those that others were writing all the while.
    """

    def mend(tally: Tally, name: Name, record: Record, other: Read) -> Tally:
        if settle(name, primary, secondary, different=True) == "busy":
            return tally.with_different(name)
        return replace(tally, copied=tally.copied + 1)

    tally, missed = Pair(primary, secondary).walk(mend, on_progress), Missed(primary)
    for name in only_in(secondary, primary):
        outcome = settle(name, primary, secondary, is_missed=missed.has(name), only_restore=True)
        tally = replace(tally, copied=tally.copied + (outcome == "restored"))
        on_progress(tally)
    return tally


def only_in(one: RecordStore, other: RecordStore) -> Iterator[Name]:
    """Names of the records that only one of two stores can read."""
    for batch in Pair(one, other).batches():
        yield from (name for name, here, there in batch if isinstance(here, Record) and not isinstance(there, Record))


class Busy(VideogenError):
    """Another process is at it."""


def repair_once(primary: RecordStore, secondary: RecordStore, since: float, on_progress: Progress) -> None:
    """As `repair`, unless any process began one at `since` or later, by the primary's clock.

    Raises Busy while another does: what it finds may be from before `since`.
    """
    last = primary.read(*LAST)
    if last is not None and last.bins.get("began") is not None and last.number("began") >= since:
        return
    me, began, renewed = secrets.token_hex(8), primary.now(), time.monotonic()
    mine = (Set("holder", me), Set("lease_s", LEASE_S))
    free = either(Is("holder", None), Unwritten("lease_s"))
    claim = Write(*LAST, mine, "only") if last is None else Write(*LAST, mine, "never", free)
    if primary.write(claim) is None:
        raise Busy("another process compares the two stores")

    def renew(tally: Tally) -> None:
        nonlocal renewed
        on_progress(tally)
        if time.monotonic() - renewed > LEASE_S / 3:
            primary.write(Write(*LAST, (), "never", Is("holder", me)))
            renewed = time.monotonic()

    try:
        repair(primary, secondary, renew)
    except VideogenError:
        began = 0.0  # it does not count
        raise
    finally:
        primary.write(Write(*LAST, (Set("began", began), Set("holder", None)), "never", Is("holder", me)))


class Mender:
    """Looks for a side that is away until it answers, then brings it up to date. Runs only while there is need."""

    def __init__(self, both: Callable[[], tuple[Side, Side]], sides: tuple[Side, Side]) -> None:
        self._both, self._sides = both, sides
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._thread: threading.Thread | None = None
        self._wanted = self._compare = False
        self._since: float | None = None

    def wake(self, compare: bool = False) -> None:
        """`compare`: a side may have lost what it held, so that what was missed is not all that it lacks."""
        with self._lock:
            self._wanted, self._compare = True, self._compare or compare
            if (self._thread is None or not self._thread.is_alive()) and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="mends two stores", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Returns when nothing is asked of the stores any more."""
        self._stop.set()
        with self._lock:
            thread = self._thread
        if thread is not None and thread.is_alive():
            thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            with self._lock:
                wanted, compare = self._wanted, self._compare
                self._wanted = self._compare = False
                if not wanted:
                    self._thread = None
                    return
            try:
                self._mend(compare)
            except Closed:
                return
            except VideogenError:  # it is tried again, for as long as this process lives
                with self._lock:
                    self._wanted, self._compare = True, self._compare or compare

    def _mend(self, compare: bool) -> None:
        """Raises StoreUnavailable while a side is away, Busy while another process compares, or when roles change."""
        for side in self._sides:
            if side.away:
                side.records.now()
                side.away, self._since = False, None
        primary, secondary = self._both()

        def go_on(tally: Tally) -> None:
            if self._stop.is_set():
                raise Closed("the stores are being closed")
            if self._both() != (primary, secondary):
                raise Busy("the primary was changed meanwhile")

        try:
            replay(primary.records, secondary.records, go_on)
            if compare:
                self._since = primary.records.now() if self._since is None else self._since
                repair_once(primary.records, secondary.records, self._since, go_on)
                self._since = None
            if Missed(primary.records).any():  # marked again meanwhile, or somebody else mends it
                self.wake()
        except StoreUnavailable:
            secondary.away = True
            raise
