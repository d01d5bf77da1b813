"""What a folder of files is, exactly: one sha256 per file, and one digest over them all; and what may be read of it.

A model version's identity is its manifest's digest. The manifest stands in the folder's `manifest.json`,
which is not an entry of itself.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType

from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused

MANIFEST_NAME = "manifest.json"
_SCHEMA = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")

SAFE_SUFFIXES = frozenset({
    ".safetensors", ".json", ".txt", ".md", ".model", ".toml", ".yaml",
    ".png", ".jpg", ".jpeg", ".webp", ".gif", ".svg",
})  # fmt: skip
_SAFE_NAMES = frozenset({"LICENSE", "NOTICE", "MLmodel"})


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file: its sha256 (64 hex digits) and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a folder by their path in it (with forward slashes).

    Raises ArtifactRefused for a path that could leave the folder.
    """

    files: Mapping[str, FileEntry]

    def __post_init__(self) -> None:
        for name in self.files:
            _check_name(name)
        object.__setattr__(self, "files", MappingProxyType(dict(sorted(self.files.items()))))

    @property
    def digest(self) -> str:
        """sha256 of the canonical JSON: the same files give the same digest, whatever order they were found in."""
        return hashlib.sha256(_canonical(self._document()).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.bytes for entry in self.files.values())

    def to_json(self) -> str:
        return json.dumps({**self._document(), "digest": self.digest}, indent=2, sort_keys=True) + "\n"

    def _document(self) -> dict[str, object]:
        files = {name: {"sha256": entry.sha256, "bytes": entry.bytes} for name, entry in self.files.items()}
        return {"schema": _SCHEMA, "files": files}


def parse_manifest(text: str, source: str = MANIFEST_NAME) -> Manifest:
    """The manifest that `to_json` wrote.

    Raises ArtifactCorrupt, naming `source`, if it is not one or does not fit its own digest, and
    ArtifactRefused if a path in it could leave the folder.
    """
    try:
        document = json.loads(text)
        entries = {name: FileEntry(entry["sha256"], entry["bytes"]) for name, entry in document["files"].items()}
        schema, digest = document["schema"], document["digest"]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactCorrupt(f"{source} is not a manifest: {error!r}") from error
    for name, entry in entries.items():
        if not isinstance(entry.sha256, str) or not _SHA256.fullmatch(entry.sha256) or type(entry.bytes) is not int:
            raise ArtifactCorrupt(f"{source}: the entry of {name!r} is not a sha256 and a number of bytes")
    if schema != _SCHEMA:
        raise ArtifactCorrupt(f"{source}: got schema {schema!r}; known: {_SCHEMA}")
    manifest = Manifest(entries)
    if digest != manifest.digest:
        raise ArtifactCorrupt(f"{source} was changed: its digest says {digest!r}, its content gives {manifest.digest}")
    return manifest


def build_manifest(folder: Path) -> Manifest:
    """The manifest of what lies in `folder` now, subfolders included.

    Raises ArtifactRefused for a link or anything else that is not a plain file, ArtifactMissing if there is no folder.
    """
    return Manifest({name: _entry(path) for name, path in _files(Path(folder)).items()})


def write_manifest(folder: Path) -> Manifest:
    """Puts `manifest.json` into `folder` and returns what it says."""
    manifest = build_manifest(folder)
    (Path(folder) / MANIFEST_NAME).write_text(manifest.to_json())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest that lies in `folder`. Raises ArtifactMissing or ArtifactCorrupt."""
    path = Path(folder) / MANIFEST_NAME
    try:
        text = path.read_text()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ArtifactMissing(f"{folder} has no {MANIFEST_NAME}") from error
    except UnicodeDecodeError as error:
        raise ArtifactCorrupt(f"{path} is not a manifest: {error}") from error
    return parse_manifest(text, str(path))


def verify(folder: Path, manifest: Manifest) -> None:
    """Raises ArtifactCorrupt, naming the file, unless `folder` holds exactly what `manifest` says.

    Every file is read in full. Sizes are looked at first, so that a truncated file is told from a changed one.
    """
    found = _files(Path(folder))
    for name in manifest.files.keys() - found.keys():
        raise ArtifactCorrupt(f"{folder}: {name} is missing")
    for name in found.keys() - manifest.files.keys():
        raise ArtifactCorrupt(f"{folder}: {name} is not in the manifest")
    for name, expected in manifest.files.items():
        size = found[name].stat().st_size
        if size != expected.bytes:
            raise ArtifactCorrupt(f"{folder}: {name} has {size:,} bytes, {expected.bytes:,} expected")
    for name, expected in manifest.files.items():
        actual = _entry(found[name])
        if actual != expected:
            raise ArtifactCorrupt(f"{folder}: {name} was changed: sha256 {actual.sha256}, {expected.sha256} expected")


def check_safe(folder: Path) -> None:
    """Raises ArtifactRefused, naming the file, if a model's `folder` holds a file of a kind that is never read.

    Weights are safetensors, the rest is data that runs nothing. A name is only half of it: a pickle or an archive is
    known by its first bytes, and what calls itself safetensors or JSON must be one, whole (ArtifactCorrupt if not).
    """
    for name, path in _files(Path(folder)).items():
        if path.suffix not in SAFE_SUFFIXES and path.name not in _SAFE_NAMES:
            kind = repr(path.suffix or path.name)
            raise ArtifactRefused(f"{folder}: {name} is of kind {kind}; allowed: {' '.join(sorted(SAFE_SUFFIXES))}")
        if path.suffix == ".safetensors":
            _check_safetensors(path)
        else:
            _refuse_pickle(path)
        if path.suffix == ".json":
            _check_json(path)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ArtifactMissing(f"{folder} is not a folder")
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ArtifactRefused(f"{folder}: {name} is not a plain file")
        if path.is_file() and name != MANIFEST_NAME:
            found[name] = path
    return found


def _entry(path: Path) -> FileEntry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return FileEntry(digest, file.tell())


def _check_name(name: str) -> None:
    parts = PurePosixPath(name).parts
    plain = name == "/".join(parts) and parts and not name.startswith("/") and ".." not in parts
    if not plain or "\\" in name or "\0" in name or name == MANIFEST_NAME:
        raise ArtifactRefused(f"{name!r} is not a path inside a folder")


def _canonical(document: Mapping[str, object]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def _refuse_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(4)
    pickled = len(head) >= 2 and head[0] == 0x80 and head[1] <= 5
    if pickled or head.startswith((b"PK\x03\x04", b"\x1f\x8b")):
        raise ArtifactRefused(
            f"{path} is a pickle or an archive, which could run anything; weights are safetensors only"
        )


def _check_safetensors(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        # Only now: the length of a good header may look like the first bytes of a pickle.
        _refuse_pickle(path)
        raise ArtifactCorrupt(f"{path} is not a whole safetensors file: {error}") from error


def _check_json(path: Path) -> None:
    try:
        json.loads(path.read_bytes())
    except ValueError as error:
        raise ArtifactCorrupt(f"{path} is not JSON: {error}") from error
