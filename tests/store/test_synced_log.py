"""Syncs that are asked for together: shared, but never with one that began before the write."""

import errno
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from videogen.store.backends.synced_log import SyncedLog


class Disk:
    """Syncs as often as it is let."""

    def __init__(self) -> None:
        self.begun, self.let = threading.Semaphore(0), threading.Semaphore(0)
        self.syncs = 0
        self.fails = False

    def fsync(self, _: int) -> None:
        self.syncs += 1
        self.begun.release()
        assert self.let.acquire(timeout=30)
        if self.fails:
            raise OSError(errno.EIO, "broken")


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").write_bytes(b"written")
    log = SyncedLog(tmp_path / "log")
    log.sync()
    yield log
    log.close()


@pytest.fixture
def disk(log, monkeypatch):
    disk = Disk()
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


def waiting(log: SyncedLog, count: int) -> None:
    """Until so many wait for a sync that is under way."""
    for _ in range(3000):
        if len(log._changed._waiters) >= count:  # ty: ignore[missing-attribute]
            return
        time.sleep(0.01)
    raise AssertionError("they do not wait")


def test_those_who_ask_during_a_sync_share_the_next_one(disk, log):
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(log.sync)
        assert disk.begun.acquire(timeout=30)
        others = [pool.submit(log.sync) for _ in range(8)]
        waiting(log, 8)
        disk.let.release()
        first.result(30)
        assert disk.begun.acquire(timeout=30)  # another begins, for the first began before they asked
        assert not any(one.done() for one in others)
        disk.let.release()
        for one in others:
            one.result(30)
    assert disk.syncs == 2


def test_after_a_sync_that_failed_none_succeeds_for_its_pages_may_be_gone(disk, log):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(log.sync)
        assert disk.begun.acquire(timeout=30)
        second = pool.submit(log.sync)
        waiting(log, 1)
        disk.fails = True
        disk.let.release()
        for one in (first, second):
            with pytest.raises(OSError, match="broken"):
                one.result(30)
    disk.fails = False
    with pytest.raises(OSError, match="an earlier sync failed: broken"):
        log.sync()
    assert disk.syncs == 1


def test_a_log_that_is_gone_needs_no_sync_and_one_that_comes_anew_has_its_name_synced_too(log, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(str(Path(f"/proc/self/fd/{file}").readlink())))
    log.path.unlink()
    log.sync()
    assert synced == []
    log.path.write_bytes(b"another")
    log.sync()
    log.sync()
    assert synced == [str(log.path), str(log.path.parent), str(log.path)]
