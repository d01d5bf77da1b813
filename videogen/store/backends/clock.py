"""Seconds that never run backwards for everyone on this machine: its boot clock, carried on over restarts."""

import time
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# macOS has no CLOCK_BOOTTIME, but its CLOCK_MONOTONIC goes on in sleep.
BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_seconds() -> float:
    """Seconds since the machine started, also those it slept; the same for all its processes."""
    return time.clock_gettime(BOOT_CLOCK)


def boot_id() -> str:
    """Changes whenever the machine starts; empty where the kernel does not say."""
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""


def continued_offset(last: float) -> float:
    """What to add to `boot_seconds` so that the clock goes on after `last`, the latest time that was ever recorded.

    Wall time fills the gap that the restart left, if it is later: the only time it is asked.
    """
    return max(last, time.time()) - boot_seconds()
