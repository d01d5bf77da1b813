"""Who waits for news of a job is told that there are some."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Generator

from videogen.store.records import Published, RequestRecord, VideoRecord


class News(asyncio.Event):
    """Set by all news, or without `progress` only by what is more than that.

    `in_store`: it is, and the store has it. `end`: how the request that is waited for ended, where that is known here.
    """

    def __init__(self, *, progress: bool = True) -> None:
        super().__init__()
        self.progress, self.in_store = progress, False
        self.end: tuple[RequestRecord, VideoRecord] | None = None

    def clear(self) -> None:
        super().clear()
        self.in_store = False


class Changes:
    """One event loop's. A key is a generation, or the request that it is made for, which may get another generation.

    That nobody waits for it costs nothing.
    """

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[News]] = defaultdict(set)

    def __len__(self) -> int:
        """How many wait."""
        return len({news for waiting in self._waiting.values() for news in waiting})

    def tell(self, *keys: str, in_store: bool = True) -> None:
        for key in keys:
            for news in self._waiting.get(key, ()):
                if in_store or news.progress:
                    news.in_store |= in_store
                    news.set()

    def ended(self, published: Published) -> None:
        """These requests have, with their video."""
        for record in published.ended:
            for news in self._waiting.get(record.id, ()):
                news.end = record, published.video
                news.set()

    @contextlib.contextmanager
    def of(self, *keys: str, progress: bool = True) -> Generator[News]:
        """What is set by all news of any of the keys from now on; who waits clears it before looking."""
        news = News(progress=progress)
        for key in keys:
            self._waiting[key].add(news)
        try:
            yield news
        finally:
            for key in keys:
                self._waiting[key].discard(news)
                if not self._waiting[key]:
                    del self._waiting[key]
