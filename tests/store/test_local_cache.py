"""The tier in the memory of a process: what it keeps, what it lets go, and that it never serves what has expired."""

import math
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator

import pytest

from tests.store.builders import Clock, put_video
from videogen.errors import RecordExpired, RecordNotFound, StoreUnavailable
from videogen.store.backends.memory import MemoryRecordStore
from videogen.store.local_cache import CONFIRM_EVERY_S, CarriedClock, LoadedVideo, LocalVideoCache
from videogen.store.primitives import RecordStore
from videogen.store.videos import Videos


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Source:
    """Where videos are loaded from; counts the loads."""

    def __init__(self, clock: Clock, keep: float = 1000.0) -> None:
        self.clock, self.keep, self.loads = clock, keep, Counter()

    def __call__(self, digest: str, size: int = 100, gpu_seconds: float = 1.0) -> Callable[[], LoadedVideo]:
        def load() -> LoadedVideo:
            self.loads[digest] += 1
            return LoadedVideo(digest.encode().ljust(size, b"."), self.clock() + self.keep, gpu_seconds)

        return load


@pytest.fixture
def source(clock) -> Source:
    return Source(clock)


def is_kept(cache: LocalVideoCache, digest: str) -> bool:
    """Asks for it, which counts as a request."""
    loaded: list[str] = []

    def load() -> LoadedVideo:
        loaded.append(digest)
        raise RecordNotFound(digest)

    try:
        cache.get(digest, load)
    except RecordNotFound:
        assert loaded == [digest]
        return False
    return True


def test_what_was_loaded_once_is_given_again(clock, source):
    cache = LocalVideoCache(1000, clock)
    for _ in range(3):
        assert cache.get("a", source("a", 400, 2.5)) == b"a".ljust(400, b".")
    assert source.loads == {"a": 1}
    found = cache.stats()
    assert (found.hits, found.misses, found.evictions, found.bytes, found.videos) == (2, 1, 0, 400, 1)
    assert found.gpu_seconds_saved == 5.0


def test_what_cannot_be_loaded_is_not_kept(clock, source):
    cache = LocalVideoCache(1000, clock)
    assert not is_kept(cache, "a")
    assert cache.get("a", source("a")).startswith(b"a") and source.loads["a"] == 1


def test_what_is_larger_than_the_cache_is_given_and_not_kept(clock, source):
    cache = LocalVideoCache(1000, clock)
    cache.get("small", source("small", 100))
    assert len(cache.get("large", source("large", 1001, 1e6))) == 1001
    assert cache.stats().bytes == 100 and is_kept(cache, "small") and not is_kept(cache, "large")
    assert len(cache.get("fits", source("fits", 1000, 1e6))) == 1000 and is_kept(cache, "fits")


def test_gpu_seconds_per_byte_decide_who_stays(clock, source):
    cache = LocalVideoCache(1000, clock)
    cache.get("dear", source("dear", 500, 100.0))
    cache.get("cheap", source("cheap", 500, 0.5))
    cache.get("middling", source("middling", 500, 10.0))
    assert is_kept(cache, "dear") and is_kept(cache, "middling") and not is_kept(cache, "cheap")
    assert cache.stats().evictions == 1


def test_many_small_ones_stay_before_a_large_one_of_the_same_cost(clock, source):
    cache = LocalVideoCache(1000, clock)
    for name in "abcd":
        cache.get(name, source(name, 250, 1.0))
    cache.get("large", source("large", 1000, 3.0))
    assert all(is_kept(cache, name) for name in "abcd") and not is_kept(cache, "large")


def test_what_is_asked_for_once_does_not_drive_out_what_is_asked_for_often(clock, source):
    cache = LocalVideoCache(1000, clock)
    for _ in range(3):
        for name in ("a", "b"):
            cache.get(name, source(name, 500))
    for number in range(2):
        cache.get(f"once {number}", source(f"once {number}", 500))
    assert is_kept(cache, "a") and is_kept(cache, "b")


def test_what_is_asked_for_often_is_let_in_though_it_was_refused_before(clock, source):
    cache = LocalVideoCache(1000, clock)
    for _ in range(3):
        cache.get("a", source("a", 1000))
    for _ in range(4):
        cache.get("b", source("b", 1000))
    assert source.loads == {"a": 1, "b": 3}


def test_what_is_asked_for_no_more_is_overtaken(clock, source):
    cache = LocalVideoCache(1000, clock)
    for _ in range(100):
        cache.get("old", source("old", 500, 1.0))
    for number in range(2000):
        cache.get(f"new {number}", source(f"new {number}", 500, 1.0))
    assert not is_kept(cache, "old")


def test_a_miss_that_is_refused_evicts_nobody(clock, source):
    cache = LocalVideoCache(1000, clock)
    cache.get("low", source("low", 300, 0.1))
    cache.get("high", source("high", 700, 100.0))
    cache.get("large", source("large", 900, 10.0))
    assert cache.stats().evictions == 0 and is_kept(cache, "low") and is_kept(cache, "high")


class PlainPolicy:
    """The policy as its docstring says it, with nothing done to make it quick."""

    def __init__(self, max_bytes: int, window: int) -> None:
        self.max_bytes, self.window, self.clock = max_bytes, window, 0.0
        self.kept: dict[str, tuple[float, int]] = {}
        self.asked: deque[str] = deque()
        self.number = 0

    def hit(self, key: str, size: int, cost: float) -> bool:
        self.asked.append(key)
        self.number += 1
        if self.number % self.window == 0:
            while len(self.asked) > self.window:
                self.asked.popleft()
        priority = self.clock + self.asked.count(key) * cost / size
        if key in self.kept:
            self.kept[key] = max(priority, self.kept[key][0]), size
            return True
        if size <= self.max_bytes:
            self._contest(key, size, priority)
        return False

    def _contest(self, key: str, size: int, priority: float) -> None:
        ranked, leaving = sorted((p, k) for k, (p, _) in self.kept.items()), []
        while sum(s for k, (_, s) in self.kept.items() if k not in leaving) + size > self.max_bytes:
            lowest, name = ranked[len(leaving)]
            if lowest >= priority:
                self.clock = max(self.clock, priority)
                return
            leaving.append(name)
        for name in leaving:
            self.clock = max(self.clock, self.kept.pop(name)[0])
        self.kept[key] = priority, size


@pytest.mark.parametrize("seed", range(6))
def test_it_keeps_exactly_what_the_policy_says_and_never_more_bytes(clock, source, seed):
    rng, window = random.Random(seed), 150
    cache, plain = LocalVideoCache(3000, clock, window), PlainPolicy(3000, window)
    sizes = [rng.choice([1, 50, 200, 900, 3000, 3001]) for _ in range(80)]
    costs = [rng.choice([0.0, 0.5, 3.0, 120.0]) for _ in range(80)]
    for step in range(1500):
        number = min(int(rng.paretovariate(0.7)) + step // 100, 79)
        before = source.loads[f"{number}"]
        cache.get(f"{number}", source(f"{number}", sizes[number], costs[number]))
        was_hit = source.loads[f"{number}"] == before
        assert was_hit == plain.hit(f"{number}", max(sizes[number], len(f"{number}")), costs[number])
        found = cache.stats()
        assert found.bytes == sum(size for _, size in plain.kept.values()) <= 3000
        assert found.videos == len(plain.kept)
    assert found.hits > 100 and found.evictions > 50


def test_frequencies_take_bounded_memory(clock, source):
    cache = LocalVideoCache(100, clock, window=50)
    for number in range(5000):
        cache.get(f"{number}", source(f"{number}", 60, 1.0))
    assert len(cache._asked.latest) + len(cache._asked.earlier) <= 100
    assert len(cache._order) == len(cache._entries) == 1


def test_what_expired_is_never_served(clock, source):
    cache = LocalVideoCache(1000, clock)
    cache.get("a", source("a"))
    clock.pass_(999.999)
    assert is_kept(cache, "a")
    clock.pass_(0.001)
    assert not is_kept(cache, "a")
    cache.get("a", source("a"))
    assert source.loads["a"] == 2


def test_what_expired_gives_its_bytes_back_and_the_rest_stays(clock, source):
    cache = LocalVideoCache(1000, clock)
    cache.get("dear", source("dear", 600, 100.0))
    clock.pass_(500)
    cache.get("cheap", source("cheap", 300, 0.1))
    clock.pass_(500)
    found = cache.stats()
    assert (found.bytes, found.videos, found.evictions) == (300, 1, 0)
    cache.get("next", source("next", 700, 1.0))
    assert cache.stats().evictions == 0 and is_kept(cache, "cheap") and is_kept(cache, "next")
    clock.pass_(500)
    assert not is_kept(cache, "cheap") and is_kept(cache, "next")


def test_what_expires_while_it_is_loaded_is_not_served(clock, source):
    cache = LocalVideoCache(1000, clock)

    def slow() -> LoadedVideo:
        loaded = source("a")()
        clock.pass_(source.keep)
        return loaded

    with pytest.raises(RecordExpired):
        cache.get("a", slow)
    assert cache.stats().bytes == 0


def through(videos: Videos, digest: str) -> Callable[[], LoadedVideo]:
    return lambda: LoadedVideo(videos.read(digest), videos.get(digest).expires_at, 1.0)


def test_a_video_of_the_store_is_served_until_its_record_expires(clock):
    videos = Videos(MemoryRecordStore(clock), keep=100.0)
    cache = LocalVideoCache(1000, videos.records.now)
    digest = put_video(videos, "g", b"mp4")
    clock.pass_(60)
    assert cache.get(digest, through(videos, digest)) == b"mp4"
    clock.pass_(39)
    assert cache.get(digest, through(videos, digest)) == b"mp4" and cache.stats().hits == 1
    clock.pass_(1)
    with pytest.raises(RecordExpired):
        cache.get(digest, through(videos, digest))
    put_video(videos, "h", b"mp4")
    assert cache.get(digest, through(videos, digest)) == b"mp4"


def test_a_video_of_each_backend_is_served_until_its_record_expires(records: RecordStore):
    videos = Videos(records, keep=1.5)
    cache = LocalVideoCache(1000, CarriedClock(records.now))
    digest = put_video(videos, "g", b"mp4")
    expires_at = videos.get(digest).expires_at
    hits = 0
    while True:
        try:
            assert cache.get(digest, through(videos, digest)) == b"mp4"
        except RecordExpired:
            break
        hits += 1
        time.sleep(0.01)
    late = records.now() - expires_at  # a carried clock is ahead by what a look at the store takes
    assert -0.5 < late < 1 and hits > 10 and cache.stats().hits == hits - 1


def test_two_that_miss_at_once_load_twice_and_keep_one(clock, source):
    cache = LocalVideoCache(1000, clock)

    def load() -> LoadedVideo:
        cache.get("a", source("a", 300))  # as another thread would meanwhile
        return source("a", 300)()

    assert cache.get("a", load) == b"a".ljust(300, b".") and source.loads["a"] == 2
    assert (cache.stats().bytes, cache.stats().videos) == (300, 1)
    cache.get("b", source("b", 700))
    assert is_kept(cache, "a") and is_kept(cache, "b")


def test_threads_share_it(clock, often_switched):
    cache, wrong, lock = LocalVideoCache(5000, clock, window=100), [], threading.Lock()
    sizes = [50 + 37 * number % 900 for number in range(60)]

    def work(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(2000):
            number = min(int(rng.paretovariate(0.3)), 59)
            mp4 = f"{number}".encode().ljust(sizes[number], b".")
            video = LoadedVideo(mp4, clock() + rng.choice([0.5, 1e6]), 1.0)
            try:
                found = cache.get(f"{number}", lambda video=video: video)
            except RecordExpired:  # another thread let the time pass
                found = mp4
            if found != mp4 or cache.stats().bytes > 5000:
                wrong.append(number)
            if rng.random() < 0.2:
                with lock:
                    clock.pass_(1.0)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    found = cache.stats()
    assert found.hits + found.misses == 8 * 2000 and found.hits > 0
    assert found.bytes == sum(len(entry.video.mp4) for entry in cache._entries.values())
    assert sorted(digest for _, digest in cache._order) == sorted(cache._entries)


@pytest.mark.parametrize(
    ("expires_at", "gpu_seconds"), [(math.nan, 1.0), (1.0, math.nan), (1.0, -1.0), (1.0, math.inf)]
)
def test_what_cannot_be_compared_is_refused(expires_at, gpu_seconds):
    with pytest.raises(ValueError, match="expected numbers"):
        LoadedVideo(b"", expires_at, gpu_seconds)


class Server:
    """A store's clock on a server that answers after a while, or not at all."""

    def __init__(self, here: Clock) -> None:
        self.here, self.looks, self.is_up = here, 0, True

    def true(self) -> float:
        return self.here.seconds + 5000.0

    def now(self) -> float:
        if not self.is_up:
            raise StoreUnavailable("down")
        self.looks += 1
        self.here.pass_(0.02)
        answer = self.true()
        self.here.pass_(0.03)
        return answer


def test_a_carried_clock_is_never_behind_and_asks_now_and_then():
    here = Clock()
    server = Server(here)
    carried = CarriedClock(server.now, 60.0, here)
    for _ in range(1200):
        assert 0 <= carried() - server.true() <= 0.05
        here.pass_(0.1)
    assert server.looks == 2


def test_a_carried_clock_says_when_the_store_is_away_too_long():
    here = Clock()
    server = Server(here)
    carried = CarriedClock(server.now, 60.0, here)
    carried()
    server.is_up = False
    here.pass_(59.9)
    assert carried() >= server.true()
    here.pass_(0.1)
    with pytest.raises(StoreUnavailable):
        carried()
    server.is_up = True
    assert carried() >= server.true()


def test_what_was_just_stored_is_given_at_a_glance_until_the_store_is_to_be_asked_again(clock):
    cache = LocalVideoCache(1000, clock, peek=clock)
    assert cache.glance("a") is None and cache.stats().misses == 0
    cache.put("a", LoadedVideo(b"mp4", clock() + 1000, 1.0))
    assert cache.glance("a") == b"mp4" and cache.stats().hits == 1
    clock.pass_(CONFIRM_EVERY_S + 1)
    assert cache.glance("a") is None, "the store may give it no more by now"
    assert cache.find("a", lambda: clock() + 1000) == b"mp4" == cache.glance("a")
    clock.pass_(1001)
    assert cache.glance("a") is None


def test_a_glance_asks_no_server(clock):
    cache = LocalVideoCache(1000, clock)
    cache.put("a", LoadedVideo(b"mp4", clock() + 1000, 1.0))
    assert cache.glance("a") is None and cache.find("a") is None, "whether it has expired is not known without"


def test_what_is_stored_takes_the_place_of_what_nobody_asked_for(clock):
    cache = LocalVideoCache(100, clock, peek=clock)
    for number in range(40):
        cache.put(str(number), LoadedVideo(bytes(50), clock() + 1000, 1.0))
    assert cache.stats().evictions > 10 and cache.stats().bytes == 100


def test_a_carried_clock_is_peeked_at_only_while_it_needs_no_look():
    here, looks = Clock(), []
    carried = CarriedClock(lambda: looks.append(1) or here() + 5.0, 60.0, here)
    assert carried.peek() is None and not looks
    assert carried() == here() + 5.0
    here.pass_(59.0)
    assert carried.peek() == here() + 5.0
    here.pass_(1.0)
    assert carried.peek() is None and len(looks) == 1
