"""The two stores of a pair: each opened when it can be, by a name that holds no password."""

import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from videogen.store.primitives import RecordStore


class Side:
    """One of the two. `away`: it did not answer lately, so it is not asked until it is seen again."""

    def __init__(self, name: str, opened: Callable[[], RecordStore]) -> None:
        self.name, self.away = name, False
        self._open, self._opened, self._lock = opened, None, threading.Lock()

    @property
    def records(self) -> RecordStore:
        """Raises StoreUnavailable."""
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()


def side_name(url: str) -> str:
    """The URL as every process must know it, without user and password."""
    if url.startswith("embedded:"):
        return f"embedded:{Path(url.partition(':')[2].removeprefix('//')).absolute()}"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
