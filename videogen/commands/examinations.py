"""What `videogen doctor` looks at. Each examination reads settings and returns findings; none changes anything."""

import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from videogen.errors import RegistryError, StoreError
from videogen.findings import Finding
from videogen.opening import NotInstalled, open_artifacts, open_registry, open_store
from videogen.settings import Settings

MIN_FREE_BYTES = 2 * 1024**3
DAGSTER_SECONDS = 60
HEARTBEAT_SECONDS = 90
"""The daemon's heart beats every thirty; after three that were missed it is taken to be dead."""
COUNTED = 1000

PACKAGES = {
    "": ("torch", "onnxruntime", "openvino", "av", "pydantic"),
    "export": ("diffusers", "transformers", "onnx", "onnxscript"),
    "control": ("dagster", "dagster-webserver", "mlflow"),
}


def python(_: Settings) -> list[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [Finding("ok", f"{version} at {sys.executable}")]


def packages(_: Settings) -> list[Finding]:
    findings = []
    for extra, names in PACKAGES.items():
        found = {name: _version(name) for name in names}
        missing = [name for name, version in found.items() if version is None]
        if missing:
            target = f".[{extra}]" if extra else "."
            findings.append(
                Finding("fix", f"not installed: {', '.join(missing)}", f"pip install -c constraints.txt '{target}'")
            )
        else:
            findings.append(Finding("ok", ", ".join(f"{name} {version}" for name, version in found.items())))
    return findings


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def home(settings: Settings) -> list[Finding]:
    existing = next(folder for folder in (settings.home, *settings.home.parents) if folder.exists())
    if not os.access(existing, os.W_OK):
        return [
            Finding("fix", f"{existing} is not writable", "make it writable, or set VIDEOGEN_HOME to a folder that is")
        ]
    free = shutil.disk_usage(existing).free
    where = str(settings.home) if existing == settings.home else f"{settings.home} (not made yet)"
    if free < MIN_FREE_BYTES:
        return [Finding("fix", f"{where}: {free / 1e9:.1f} GB free", "free 2 GB, or set VIDEOGEN_HOME to another disk")]
    return [Finding("ok", f"{where}, {free / 1e9:.0f} GB free")]


def store(settings: Settings) -> list[Finding]:
    try:
        now = open_store(settings)
        waiting = len(now.waiting(limit=COUNTED))
    except (StoreError, OSError) as error:
        return [Finding("fix", f"{settings.store_url}: {error}", "set VIDEOGEN_STORE_URL, or make its folder writable")]
    more = " or more" if waiting == COUNTED else ""
    return [Finding("ok", f"{settings.store_url}, {waiting}{more} requests wait for a batch"), *now.records.examine()]


def artifacts(settings: Settings) -> list[Finding]:
    root = open_artifacts(settings).root
    if not root.exists():
        return [Finding("ok", f"{settings.artifacts_url} (not made yet)")]
    kinds = sorted(folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    counts = ", ".join(f"{len(list(kind.iterdir()))} {kind.name}" for kind in kinds) or "empty"
    found = [Finding("ok", f"{settings.artifacts_url}: {counts}")]
    corrupt = list((root / ".corrupt").glob("*"))
    if corrupt:
        found.append(
            Finding("note", f"{len(corrupt)} set aside as corrupt", f"look at them, then: rm -r {root}/.corrupt")
        )
    return found


def registry(settings: Settings) -> list[Finding]:
    try:
        models = open_registry(settings).models()
    except (RegistryError, NotInstalled) as error:
        return [Finding("fix", str(error), "set MLFLOW_TRACKING_URI to an MLflow that answers, or unset it")]
    if not models:
        return [Finding("note", f"{settings.tracking_uri}: no model yet", "make demo, or videogen models register")]
    return [Finding("ok", f"{settings.tracking_uri}: {', '.join(models)}")]


def codecs(_: Settings) -> list[Finding]:
    import av

    missing = [codec for codec in ("libx264", "libwebp_anim") if codec not in av.codecs_available]
    if missing:
        remedy = "pip install --force-reinstall --only-binary av av"
        return [Finding("fix", f"PyAV {av.__version__} lacks {', '.join(missing)}", remedy)]
    return [Finding("ok", f"PyAV {av.__version__} writes H.264 and animated WebP")]


def devices(_: Settings) -> list[Finding]:
    from videogen.devices import find_devices
    from videogen.errors import DeviceError

    try:
        return [Finding("ok", str(device)) for device in find_devices()]
    except DeviceError as error:
        return [
            Finding(
                "fix", str(error), "check the NVIDIA driver with nvidia-smi, or set CUDA_VISIBLE_DEVICES= to do without"
            )
        ]


def tensorrt(settings: Settings) -> list[Finding]:
    findings = []
    for target, module in (("tensorrt-rtx", "tensorrt_rtx"), ("tensorrt", "tensorrt")):
        wanted, there = target in settings.targets, importlib.util.find_spec(module) is not None
        if there:
            findings.append(Finding("ok", f"{target} is installed: engines can be built"))
        elif wanted:
            findings.append(Finding("fix", f"VIDEOGEN_TARGETS names {target}, which is not installed", INSTALL[target]))
        else:
            findings.append(Finding("note", f"{target} is not installed; only needed for its engines", INSTALL[target]))
    return findings


INSTALL = {
    "tensorrt-rtx": "pip install -c constraints.txt '.[tensorrt-rtx]'",
    "tensorrt": "pip install --extra-index-url https://pypi.nvidia.com '.[tensorrt]'",
}


def dagster(settings: Settings) -> list[Finding]:
    if not (settings.dagster_home / "dagster.yaml").exists():
        return [
            Finding("note", f"no Dagster instance at {settings.dagster_home} yet", "make demo, or make dev, makes it")
        ]
    asleep = daemon_absence(settings)
    if asleep:
        return [Finding("note", f"the daemon {asleep}; queued requests wait for it", "make dev")]
    return [Finding("ok", f"the daemon of {settings.dagster_home} is alive")]


def daemon_absence(settings: Settings) -> str | None:
    """Since when the Dagster daemon of this installation has not been alive, in words; None if it is."""
    silent = _daemon_silence(settings.dagster_home / "history" / "runs.db")
    if silent is None:
        return "is not running"
    return f"was last alive {silent / 60:.0f} min ago" if silent > HEARTBEAT_SECONDS else None


def _daemon_silence(database: Path) -> float | None:
    """Seconds since the last heartbeat. Dagster's own liveness check calls a daemon alive for half an hour."""
    if not database.exists():
        return None
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'daemon_heartbeats'").fetchone():
            return None
        (latest,) = connection.execute("SELECT max(timestamp) FROM daemon_heartbeats").fetchone()
    if latest is None:
        return None
    beat = datetime.fromisoformat(latest).replace(tzinfo=UTC)
    return (datetime.now(UTC) - beat).total_seconds()


def pools(settings: Settings) -> list[Finding]:
    if not (settings.dagster_home / "dagster.yaml").exists():
        return []
    listed = _dagster(settings, "dagster", "instance", "concurrency", "get", "--all")
    if listed.returncode:
        return [Finding("fix", f"pools cannot be read: {listed.stderr.strip()[-200:]}", "dagster instance migrate")]
    return [Finding("ok", " ".join(listed.stdout.split()) or "every pool has the default limit of deploy/dagster.yaml")]


def _dagster(settings: Settings, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(Path(sys.executable).parent / command), *arguments],
        env={**os.environ, "DAGSTER_HOME": str(settings.dagster_home)},
        capture_output=True,
        text=True,
        timeout=DAGSTER_SECONDS,
    )


EXAMINATIONS: dict[str, Callable[[Settings], list[Finding]]] = {
    "python": python,
    "packages": packages,
    "home": home,
    "store": store,
    "artifacts": artifacts,
    "registry": registry,
    "codecs": codecs,
    "devices": devices,
    "tensorrt": tensorrt,
    "dagster": dagster,
    "pools": pools,
}
SLOW = ("registry", "pools")
