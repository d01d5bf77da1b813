"""Opens what a command or a resource works with, by the settings. Heavy packages are imported here, when needed."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.errors import VideogenError
from videogen.settings import Settings

if TYPE_CHECKING:
    from videogen.artifacts import Artifacts
    from videogen.registry import ModelRegistry
    from videogen.store.records import StoreLimits
    from videogen.store.store import Store


class NotInstalled(VideogenError):
    """A command needs packages of an extra that was not installed."""


def require(package: str, extra: str) -> None:
    """Raises NotInstalled, with the command that mends it, unless `package` is there."""
    if importlib.util.find_spec(package) is None:
        raise NotInstalled(
            f"{package} is not installed; it comes with: pip install -c constraints.txt '.[{extra}]' in the checkout"
        )


def store_limits(settings: Settings) -> "StoreLimits":
    from videogen.store.records import StoreLimits

    return StoreLimits(
        tenant_weights=settings.tenant_weights,
        share_between_tenants=settings.share_between_tenants,
        local_cache_bytes=settings.store_cache_bytes,
    )


def open_store(settings: Settings) -> "Store":
    from videogen.store.store import Store

    return Store.open(settings.store_url, store_limits(settings))


def open_artifacts(settings: Settings, url: str | None = None, cache: Path | None = None) -> "Artifacts":
    from videogen.artifacts import Artifacts

    return Artifacts(url or settings.artifacts_url, cache or settings.home / "artifacts-cache")


def open_registry(settings: Settings) -> "ModelRegistry":
    require("mlflow", "control")
    from videogen.registry import ModelRegistry

    local = settings.tracking_uri.startswith("sqlite:")
    return ModelRegistry(
        settings.tracking_uri,
        registry_uri=settings.registry_uri,
        artifact_root=settings.tracking_artifacts if local else None,  # a server decides for itself
        ui=settings.mlflow_ui,
        dagster_ui=settings.dagster_ui,
    )
