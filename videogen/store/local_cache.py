"""Videos in the memory of one process, in front of the store: those whose bytes spare the most GPU time.

None is given after its expiry, and none that the store gives no more for longer than `CONFIRM_EVERY_S`.

When there is no room for all, those of the highest priority stay. The priority is that of GreedyDual-Size-Frequency
(L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HPL-98-69R1, 1998):

    priority = clock + frequency * GPU-seconds / bytes

The clock is the highest priority that ever had to leave, so what is asked for no more is overtaken by what is. Two
things differ from the paper, and make it an admission by frequency as well: how often a video is asked for is counted
whether or not it is here, and forgotten after a while; and a newcomer takes part in the contest for room, so that one
that is asked for once does not drive out what is asked for often.
"""

import heapq
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from videogen.errors import RecordDamaged, RecordExpired, RecordNotFound
from videogen.store.backends.clock import boot_seconds

WINDOW = 10_000
"""Requests over which frequencies are counted."""
LOOK_EVERY_S = 60.0
CONFIRM_EVERY_S = 60.0
"""Of the store's clock: what is here is given for so long until the store is asked whether it still gives it."""
Confirm = Callable[[], float]
"""Asks the store for a video's expiry. Raises RecordNotFound or RecordDamaged if the video is not given any more."""


@dataclass(frozen=True, slots=True)
class LoadedVideo:
    """What the store gave: the MP4, `expires_at` by the store's clock, and the GPU-seconds that making it took."""

    mp4: bytes
    expires_at: float
    gpu_seconds: float

    def __post_init__(self) -> None:
        if not (0 <= self.gpu_seconds < math.inf) or math.isnan(self.expires_at):
            raise ValueError(
                f"got {self.gpu_seconds} GPU-seconds, expiry at {self.expires_at}; expected numbers from 0"
            )


@dataclass(frozen=True, slots=True)
class CacheStats:
    """Counts since the start, and what is held now. `evictions` made room for others; expiries are none.

    `loads`: the misses that the store answered. `gpu_seconds_saved`: what the hits would have cost.
    """

    hits: int
    misses: int
    loads: int
    evictions: int
    bytes: int
    videos: int
    gpu_seconds_saved: float


@dataclass(slots=True)
class _Entry:
    video: LoadedVideo
    priority: float
    confirmed_at: float


class LocalVideoCache:
    """At most `max_bytes` of videos. Safe to use from several threads.

    `now` is the store's clock: where asking it means asking a server, a `CarriedClock` of it. `peek` is that clock
    where it is known without asking, else None.
    """

    def __init__(
        self,
        max_bytes: int,
        now: Callable[[], float],
        window: int = WINDOW,
        peek: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.max_bytes, self._now, self._peek, self._lock = max_bytes, now, peek, threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # One item per entry, lowest first, with the priority it had when it was put here; it may have risen since.
        self._order: list[tuple[float, str]] = []
        self._asked, self._clock, self._bytes, self._first_expiry = _Frequencies(window), 0.0, 0, math.inf
        self._hits = self._misses = self._loads = self._evictions = 0
        self._saved = 0.0

    def get(self, digest: str, load: Callable[[], LoadedVideo], confirm: Confirm | None = None) -> bytes:
        """The MP4; `load` fetches it if it is not here, several times if several threads miss it at once.

        Raises what `load` and `confirm` raise, and RecordExpired if what was loaded has expired meanwhile.
        """
        found = self.find(digest, confirm)
        return self.fill(digest, load) if found is None else found

    def find(self, digest: str, confirm: Confirm | None = None) -> bytes | None:
        """The MP4 if it is here. What was not confirmed for `CONFIRM_EVERY_S` is, if `confirm` is given.

        Raises what `confirm` raises; what the store does not give any more leaves.
        """
        now = self._now()
        with self._lock:
            self._drop_expired(now)
            self._asked.add(digest)
            entry = self._entries.get(digest)
            if entry is None:
                self._misses += 1
                return None
            if confirm is None or now - entry.confirmed_at < CONFIRM_EVERY_S:
                return self._hit(digest, entry)
        self._confirm(digest, entry, confirm, now)
        with self._lock:
            return self._hit(digest, entry)

    def fill(self, digest: str, load: Callable[[], LoadedVideo]) -> bytes:
        """The MP4 that `load` fetches, kept if there is room for it. Raises as `get`."""
        asked = self._now()
        video = load()
        if video.expires_at <= self._now():
            raise RecordExpired(f"video {digest} expired while it was read")
        with self._lock:
            self._loads += 1
            self._offer(digest, video, asked)
        return video.mp4

    def glance(self, digest: str) -> bytes | None:
        """As `find`, but never waits, neither for the store nor for another thread: None for what that would take."""
        now = self._peek()
        if now is None or not self._lock.acquire(blocking=False):
            return None
        try:
            entry = self._entries.get(digest)
            if entry is None or now - entry.confirmed_at >= CONFIRM_EVERY_S or entry.video.expires_at <= now:
                return None
            self._asked.add(digest)
            return self._hit(digest, entry)
        finally:
            self._lock.release()

    def put(self, digest: str, video: LoadedVideo) -> None:
        """Takes in what the store was just given, if there is room for it; that counts as asked for once.

        It asks the store nothing: where the time is not known without, nothing is kept.
        """
        now = self._peek()
        if now is None:
            return
        with self._lock:
            self._asked.add(digest)
            self._offer(digest, video, now)

    def passed_by(self) -> None:
        """Counts a miss that the store answers, with what is not to be kept here."""
        with self._lock:
            self._loads += 1

    def _hit(self, digest: str, entry: _Entry) -> bytes:
        self._hits += 1
        self._saved += entry.video.gpu_seconds
        entry.priority = max(entry.priority, self._priority(digest, entry.video))
        return entry.video.mp4

    def _confirm(self, digest: str, entry: _Entry, confirm: Confirm, now: float) -> None:
        try:
            expires_at = confirm()
        except (RecordNotFound, RecordDamaged):
            with self._lock:
                self._keep({name: held for name, held in self._entries.items() if held is not entry})
            raise
        with self._lock:
            entry.video, entry.confirmed_at = replace(entry.video, expires_at=expires_at), now
            self._first_expiry = min(self._first_expiry, expires_at)

    def stats(self) -> CacheStats:
        now = self._now()
        with self._lock:
            self._drop_expired(now)
            held = self._bytes, len(self._entries)
            return CacheStats(self._hits, self._misses, self._loads, self._evictions, *held, self._saved)

    def _priority(self, digest: str, video: LoadedVideo) -> float:
        return self._clock + self._asked.count(digest) * video.gpu_seconds / max(len(video.mp4), 1)

    def _offer(self, digest: str, video: LoadedVideo, asked: float) -> None:
        """Takes a video in, unless all that would have to leave for it is worth more."""
        if digest in self._entries or len(video.mp4) > self.max_bytes:
            return
        entry = _Entry(video, self._priority(digest, video), asked)
        if not self._make_room(len(video.mp4), entry.priority):
            self._clock = max(self._clock, entry.priority)
            return
        self._entries[digest] = entry
        heapq.heappush(self._order, (entry.priority, digest))
        self._bytes += len(video.mp4)
        self._first_expiry = min(self._first_expiry, video.expires_at)

    def _make_room(self, size: int, priority: float) -> bool:
        """Evicts the lowest for `size` bytes; nothing, and False, if one of them is not below `priority`."""
        leaving: list[tuple[float, str]] = []
        free = self.max_bytes - self._bytes
        while free < size:
            lowest, digest = self._pop_lowest()
            leaving.append((lowest, digest))
            free += len(self._entries[digest].video.mp4)
            if lowest >= priority:
                for item in leaving:
                    heapq.heappush(self._order, item)
                return False
        for lowest, digest in leaving:
            self._clock = max(self._clock, lowest)
            self._bytes -= len(self._entries.pop(digest).video.mp4)
        self._evictions += len(leaving)
        return True

    def _pop_lowest(self) -> tuple[float, str]:
        while True:
            known, digest = self._order[0]
            priority = self._entries[digest].priority
            if priority == known:
                return heapq.heappop(self._order)
            heapq.heapreplace(self._order, (priority, digest))

    def _drop_expired(self, now: float) -> None:
        if now < self._first_expiry:
            return
        self._keep({digest: entry for digest, entry in self._entries.items() if entry.video.expires_at > now})

    def _keep(self, entries: dict[str, _Entry]) -> None:
        self._entries = entries
        self._order = [(entry.priority, digest) for digest, entry in entries.items()]
        heapq.heapify(self._order)
        self._bytes = sum(len(entry.video.mp4) for entry in entries.values())
        self._first_expiry = min((entry.video.expires_at for entry in entries.values()), default=math.inf)


class _Frequencies:
    """How often each key was asked for, among the last `window` requests and up to as many before them."""

    def __init__(self, window: int) -> None:
        self.window, self.requests = window, 0
        self.latest: dict[str, int] = {}
        self.earlier: dict[str, int] = {}

    def add(self, key: str) -> None:
        self.latest[key] = self.latest.get(key, 0) + 1
        self.requests += 1
        if self.requests == self.window:
            self.earlier, self.latest, self.requests = self.latest, {}, 0

    def count(self, key: str) -> int:
        return self.latest.get(key, 0) + self.earlier.get(key, 0)


class CarriedClock:
    """A store's clock, carried on by this machine's between two looks at it.

    Never behind the store's, unless that was set forward since the last look, and ahead of it by no more than a look
    takes. Raises StoreUnavailable when a look fails.
    """

    def __init__(
        self, now: Callable[[], float], look_every_s: float = LOOK_EVERY_S, here: Callable[[], float] = boot_seconds
    ) -> None:
        self._now, self._look_every_s, self._here = now, look_every_s, here
        self._looked = -math.inf, 0.0

    def peek(self) -> float | None:
        """The time where it needs no look, else None."""
        asked, answer = self._looked
        ago = self._here() - asked
        return answer + ago if ago < self._look_every_s else None

    def __call__(self) -> float:
        asked, answer = self._looked
        if self._here() - asked >= self._look_every_s:
            asked = self._here()
            answer = self._now()
            self._looked = asked, answer
        return answer + (self._here() - asked)
