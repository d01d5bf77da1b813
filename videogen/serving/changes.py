"""Who waits for news of a job is told that there are some."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Generator


class News(asyncio.Event):
    """Set by all news. `in_store`: there is more to it than progress, which the maker knows; the store has the rest."""

    in_store = False

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
                news.in_store |= in_store
                news.set()

    @contextlib.contextmanager
    def of(self, *keys: str) -> Generator[News]:
        """What is set by all news of any of the keys from now on; who waits clears it before looking."""
        news = News()
        for key in keys:
            self._waiting[key].add(news)
        try:
            yield news
        finally:
            for key in keys:
                self._waiting[key].discard(news)
                if not self._waiting[key]:
                    del self._waiting[key]
