"""A lock between processes that the kernel gives back when its holder dies, however it dies.

Threads of one process exclude each other too. Between machines it holds as far as the file system carries flock. The
file stays: removing it would let two holders in, one on the old file and one on the new.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path


@contextmanager
def file_lock(path: Path) -> Generator[None]:
    """Waits for and holds the lock that `path` stands for, alone."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def try_file_lock(path: Path, held: ExitStack, *, shared: bool = False) -> bool:
    """Takes the lock if it is free, alone or `shared` with others who share it; `held` gives it back."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    held.callback(os.close, descriptor)
    return True


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
