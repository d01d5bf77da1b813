"""Content-addressed folders: weights, graphs, engines, evaluation videos. Whole and verified, or not there.

Under the root, which is local unless its URL says otherwise:

    <kind>/<key>/            an artifact: its files and their manifest.json; appears by one rename
    .scratch/<kind>--<key>/  where one is being made
    .locks/<kind>--<key>     held while one is being made
    .corrupt/                what failed its manifest, kept to be looked at

At a remote URL an artifact's files lie in `<kind>/<key>/<manifest digest>/`, and `<kind>/<key>/manifest.json`, written
last, says which of those folders counts. Locks reach as far as the local cache: two machines may build the same
thing twice, and each leaves a whole one.
"""

import errno
import re
import shutil
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videogen.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ArtifactRefused, DiskFull
from videogen.locks import file_lock
from videogen.manifest import MANIFEST_NAME, Manifest, parse_manifest, read_manifest, verify, write_manifest

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,199}")
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_ALMOST_NOTHING = 1 << 20  # bytes; a builder that met a full disk does not always say so


@dataclass(frozen=True, slots=True)
class Artifacts:
    """The folders under `url`: a local path, or any URL that fsspec knows (`s3://bucket/videogen`).

    What is remote is worked with in `cache`, a local folder. `kind` is a word, `key` mostly a digest.
    """

    url: str = "var/artifacts"
    cache: Path | None = None

    @property
    def root(self) -> Path:
        """The local folder that `path` points into."""
        if _is_local(self.url):
            return Path(self.url.removeprefix("file://")).absolute()
        return (self.cache or Path("var") / "artifacts-cache").absolute()

    def path(self, kind: str, key: str) -> Path:
        """Where the artifact lies, if it does. Raises ArtifactRefused for a kind or key that could leave the root."""
        if not _KIND.fullmatch(kind):
            raise ArtifactRefused(f"kind: got {kind!r}; allowed: up to 40 lower case letters, digits, _ and -")
        if not _KEY.fullmatch(key):
            raise ArtifactRefused(f"key: got {key!r}; allowed: up to 200 letters, digits and . _ @ + -")
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether there is one; not whether it is intact."""
        remote = self._remote()
        return (self.path(kind, key) / MANIFEST_NAME).is_file() or (remote is not None and remote.has(kind, key))

    def get(self, kind: str, key: str) -> Path:
        """The artifact's folder, every file of it verified against its manifest, fetched first if it is remote.

        Raises ArtifactMissing, or ArtifactCorrupt naming the file.
        """
        path = self.path(kind, key)
        if not (path / MANIFEST_NAME).is_file():
            remote = self._remote()
            if remote is None or not remote.has(kind, key):
                raise ArtifactMissing(f"there is no {kind} {key} under {self.url}")
            with self._lock(kind, key):
                self._make(kind, key, lambda scratch: remote.fetch(kind, key, scratch))
        verify(path, read_manifest(path))
        return path

    def manifest(self, kind: str, key: str) -> Manifest:
        """What the artifact consists of, without reading its files. Raises as `get` does."""
        path = self.path(kind, key)
        return read_manifest(path if (path / MANIFEST_NAME).is_file() else self.get(kind, key))

    def build(self, kind: str, key: str, fill: Callable[[Path], None]) -> tuple[Path, bool]:
        """The artifact's folder, and whether it was built now: `fill` writes it into the empty folder it is given.

        One builder at a time, across processes; who waited for another's gets that one. A corrupt artifact is set
        aside and built again. If anything goes wrong, nothing of the attempt stays; what `fill` raised is raised on,
        or DiskFull if that is why.
        """
        remote = self._remote()
        with self._lock(kind, key):
            built = not self._reusable(kind, key, remote)
            path = self._make(kind, key, fill) if built else self.path(kind, key)
            if remote is not None and (built or not remote.has(kind, key)):
                remote.send(kind, key, path)
            return path, built

    def _reusable(self, kind: str, key: str, remote: "_Remote | None") -> bool:
        path = self.path(kind, key)
        try:
            if path.exists():
                verify(path, read_manifest(path))
            elif remote is not None and remote.has(kind, key):
                self._make(kind, key, lambda scratch: remote.fetch(kind, key, scratch))
        except (ArtifactCorrupt, ArtifactMissing, ArtifactRefused):
            self._set_aside(kind, key)
        return path.exists()

    def _make(self, kind: str, key: str, fill: Callable[[Path], None]) -> Path:
        path, scratch = self.path(kind, key), self.root / ".scratch" / f"{kind}--{key}"
        shutil.rmtree(scratch, ignore_errors=True)  # a dead builder's: the lock is ours
        try:
            with _disk_full_named(scratch, f"{kind} {key}"):
                scratch.mkdir(parents=True)
                fill(scratch)
                if not write_manifest(scratch).files:
                    raise ArtifactError(f"{kind} {key}: the build wrote no file")
                path.parent.mkdir(parents=True, exist_ok=True)
                scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return path

    def _set_aside(self, kind: str, key: str) -> None:
        path, aside = self.path(kind, key), self.root / ".corrupt"
        aside.mkdir(parents=True, exist_ok=True)
        if path.exists():
            path.rename(Path(tempfile.mkdtemp(prefix=f"{kind}--{key}-", dir=aside)) / "files")

    def _lock(self, kind: str, key: str) -> AbstractContextManager[None]:
        self.path(kind, key)
        return file_lock(self.root / ".locks" / f"{kind}--{key}")

    def _remote(self) -> "_Remote | None":
        return None if _is_local(self.url) else _Remote.open(self.url)


@dataclass(frozen=True, slots=True)
class _Remote:
    """The artifacts behind a URL that is not local."""

    files: Any  # fsspec's AbstractFileSystem
    root: str

    @classmethod
    def open(cls, url: str) -> "_Remote":
        import fsspec

        return cls(*fsspec.core.url_to_fs(url))

    def has(self, kind: str, key: str) -> bool:
        return bool(self.files.isfile(f"{self.root}/{kind}/{key}/{MANIFEST_NAME}"))

    def fetch(self, kind: str, key: str, folder: Path) -> None:
        """Copies the artifact into `folder` and verifies it. Raises ArtifactCorrupt."""
        base = f"{self.root}/{kind}/{key}"
        manifest = parse_manifest(self.files.cat_file(f"{base}/{MANIFEST_NAME}").decode(), f"{base}/{MANIFEST_NAME}")
        for name in manifest.files:
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                self.files.get_file(f"{base}/{manifest.digest}/{name}", str(target))
            except FileNotFoundError as error:
                raise ArtifactCorrupt(f"{base}: {name} is missing") from error
        verify(folder, manifest)

    def send(self, kind: str, key: str, folder: Path) -> None:
        """Copies `folder` there. Its manifest goes last: a reader sees all of it or none."""
        base, manifest = f"{self.root}/{kind}/{key}", read_manifest(folder)
        for name in manifest.files:
            target = f"{base}/{manifest.digest}/{name}"
            self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(folder / name), target)
        self.files.pipe_file(f"{base}/{MANIFEST_NAME}", manifest.to_json().encode())


def _is_local(url: str) -> bool:
    return "://" not in url or url.startswith("file://")


@contextmanager
def _disk_full_named(scratch: Path, what: str) -> Generator[None]:
    try:
        yield
    except Exception as error:
        free = None
        with suppress(FileNotFoundError):
            free = shutil.disk_usage(scratch).free
        said_so = isinstance(error, OSError) and error.errno in _FULL
        if said_so or (free is not None and free < _ALMOST_NOTHING):
            raise DiskFull(
                f"{what}: the disk that holds {scratch.parent.parent} is full: {free or 0:,} bytes are free"
            ) from error
        raise
