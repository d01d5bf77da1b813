"""A log that others append to, synced to the disk; those who ask at the same time share one sync."""

import os
import threading
from pathlib import Path


class SyncedLog:
    """`path` may come and go: it is gone only once all that it held is synced elsewhere."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._begun = self._done = 0
        self._is_syncing = False
        self._known: int | None = None

    def sync(self) -> None:
        """Returns once what was appended before the call is on the disk. Raises OSError."""
        with self._changed:
            enough = self._begun + 1  # the one under way may have begun too early
            self._changed.wait_for(lambda: self._done >= enough or not self._is_syncing)
            if self._done >= enough:
                return
            self._is_syncing, self._begun = True, self._begun + 1
            mine = self._begun
        try:
            self._sync()
        except BaseException:
            mine = self._done
            raise
        finally:
            with self._changed:
                self._is_syncing, self._done = False, mine
                self._changed.notify_all()

    def _sync(self) -> None:
        try:
            log = os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            return
        try:
            os.fsync(log)
            number = os.fstat(log).st_ino
        finally:
            os.close(log)
        if number != self._known:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # or the name of a new file may be lost
            finally:
                os.close(folder)
            self._known = number
