"""The environment that every local process shares: one state folder, one Dagster instance."""

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.settings import Settings

if TYPE_CHECKING:
    import dagster as dg

ROOT = Path(__file__).resolve().parents[2]
WORKSPACE = ROOT / "workspace.yaml"
INSTANCE_CONFIG = ROOT / "deploy" / "dagster.yaml"


def prepare(settings: Settings) -> dict[str, str]:
    """Makes the state folder and the Dagster instance in it, and returns the environment for child processes."""
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    settings.tracking_artifacts.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(INSTANCE_CONFIG, settings.dagster_home / "dagster.yaml")
    scripts = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "VIDEOGEN_HOME": str(settings.home),
        "VIDEOGEN_STORE_URL": settings.store_url,
        "VIDEOGEN_ARTIFACTS_URL": settings.artifacts_url,
        "VIDEOGEN_TARGETS": ",".join(settings.targets),
        "MLFLOW_TRACKING_URI": settings.tracking_uri,
        "DAGSTER_HOME": str(settings.dagster_home),
    }


def open_instance(settings: Settings) -> "dg.DagsterInstance":
    """The Dagster instance, its device pool known from the start: a queue that knows no pool yet lets every run by."""
    import dagster as dg

    from resources.gpu import DEVICE_POOL

    instance = dg.DagsterInstance.from_config(str(settings.dagster_home))
    instance.event_log_storage.initialize_concurrency_limit_to_default(DEVICE_POOL)
    return instance


def script(name: str) -> str:
    """The path of a command that is installed beside this interpreter."""
    return str(Path(sys.executable).parent / name)


def daemon_command() -> list[str]:
    """The Dagster daemon: sensors, run queue, run monitoring."""
    return [script("dagster-daemon"), "run", "-w", str(WORKSPACE)]


def forget_daemon(settings: Settings) -> None:
    """Takes away the heartbeats of a daemon that has ended: people would be told for a while that it is alive."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        instance.wipe_daemon_heartbeats()


def webserver_command(host: str, port: int) -> list[str]:
    """The Dagster UI."""
    return [script("dagster-webserver"), "-w", str(WORKSPACE), "-h", host, "-p", str(port)]


def mlflow_command(settings: Settings, host: str, port: int) -> list[str]:
    """The MLflow UI and API over the local database; one worker, for the default is fifteen processes."""
    return [
        *(script("mlflow"), "server", "--workers", "1", "--host", host, "--port", str(port)),
        *("--backend-store-uri", settings.tracking_uri),
        *("--default-artifact-root", str(settings.tracking_artifacts)),
    ]
