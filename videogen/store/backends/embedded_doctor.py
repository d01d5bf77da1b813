"""Whether a folder is a place for an embedded store: writable, local, on a disk, with room."""

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from videogen.findings import Finding

MOUNTS = Path("/proc/self/mountinfo")
REMOTE = re.compile(r"nfs\d?|cifs|smb\d?|smbfs|9p|afs|ceph|glusterfs|lustre|gpfs|fuse\.(sshfs|glusterfs|s3fs|gcsfuse)")
IN_MEMORY = ("tmpfs", "ramfs")
LEAST_FREE = 1 << 30
"""Bytes: below this a day's videos may fill the disk."""


def examine(folder: Path, used: int, file_system: str | None) -> Iterator[Finding]:
    """`used`: bytes of the store's files. `file_system`: as `file_system_of` says it."""
    free = shutil.disk_usage(folder).free
    on = f" on {file_system}" if file_system else ""
    yield Finding(
        "ok",
        f"embedded:{folder}: SQLite {sqlite3.sqlite_version}, {used:,} bytes used, {free:,} bytes free{on}",
    )
    if not os.access(folder, os.W_OK):
        yield Finding("fix", f"{folder} cannot be written", f"chown or chmod it, or mount it writable: {folder}")
    if free < LEAST_FREE:
        what = f"{free:,} bytes free, of at least {LEAST_FREE:,}: without room writes are refused"
        yield Finding("fix", what, "free some, or move it: videogen store migrate")
    if file_system in IN_MEMORY:
        what = f"{file_system} is in memory alone: a restart of the machine loses everything"
        yield Finding("fix", what, "a folder on a disk: videogen store migrate")
    if file_system and REMOTE.fullmatch(file_system):
        what = f"{file_system} is a network's file system: the locks that keep processes apart may not hold there"
        yield Finding("fix", what, "a folder on a local disk, or Aerospike or Redis: videogen store migrate")


def file_system_of(folder: Path) -> str | None:
    """The type of the file system that holds `folder`, such as ext4; None where the system does not say."""
    if not MOUNTS.exists():
        return None
    return mounted_at(folder.resolve(), MOUNTS.read_text())


def mounted_at(folder: Path, mountinfo: str) -> str | None:
    """The same from what Linux's mountinfo says; of several mounts in one place the last one counts."""
    found: tuple[int, str | None] = (0, None)
    for line in mountinfo.splitlines():
        place, _, facts = line.partition(" - ")
        point = Path(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split()[4]))
        if folder.is_relative_to(point) and len(point.parts) >= found[0]:
            found = len(point.parts), facts.split()[0]
    return found[1]
