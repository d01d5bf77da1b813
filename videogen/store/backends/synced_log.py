"""A log that others append to, synced to the disk; those who ask at the same time share one sync."""

import os
import threading
from pathlib import Path


class SyncedLog:
    """`path` may come and go: it is gone only once all that it held is synced elsewhere.

    After a sync that failed, none succeeds any more: the system may have dropped what it could not write, and would
    say of the next one that all is well.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._begun = self._done = 0
        self._is_syncing = False
        self._failed: OSError | None = None
        self._file: int | None = None

    def sync(self) -> None:
        """Returns once what was appended before the call is on the disk. Raises OSError."""
        with self._changed:
            enough = self._begun + 1  # the one under way may have begun too early
            self._changed.wait_for(lambda: self._done >= enough or not self._is_syncing)
            if self._failed is not None:
                raise OSError(self._failed.errno, f"an earlier sync failed: {self._failed.strerror}")
            if self._done >= enough:
                return
            self._is_syncing, self._begun = True, self._begun + 1
        try:
            self._sync()
        except OSError as error:
            self._failed = error
            raise
        finally:
            with self._changed:
                self._is_syncing, self._done = False, self._begun
                self._changed.notify_all()

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _sync(self) -> None:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return
        is_new = self._file is None or not os.path.samestat(os.fstat(self._file), found)
        if is_new:
            self.close()
            self._file = os.open(self.path, os.O_RDONLY)
        assert self._file is not None
        os.fsync(self._file)
        if is_new:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)  # or the name of a new file may be lost
            finally:
                os.close(folder)
