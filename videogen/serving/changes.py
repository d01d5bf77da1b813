"""Who waits for news of a generation is told that there are some."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Generator


class Changes:
    """One event loop's. A key is a generation; that nobody waits for it costs nothing."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def tell(self, key: str) -> None:
        for event in self._waiting.get(key, ()):
            event.set()

    @contextlib.contextmanager
    def of(self, key: str) -> Generator[asyncio.Event]:
        """An event that is set by all news of `key` from now on; who waits clears it before looking."""
        event = asyncio.Event()
        self._waiting[key].add(event)
        try:
            yield event
        finally:
            self._waiting[key].discard(event)
            if not self._waiting[key]:
                del self._waiting[key]
