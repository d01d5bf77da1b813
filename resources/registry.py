"""The model registry, as an asset or a sensor gets it."""

import os

import dagster as dg
from pydantic import Field

from videogen.registry import ModelRegistry
from videogen.settings import read_settings


class RegistryResource(dg.ConfigurableResource):
    """MLflow's model registry. Touches no global of MLflow's: two resources may speak to two servers."""

    tracking_uri: str | None = Field(
        default=None, description="Where MLflow is; by default MLFLOW_TRACKING_URI, or SQLite in the home folder."
    )
    registry_uri: str | None = Field(default=None, description="Where its registry is, if that is another place.")
    ui: str | None = Field(
        default=None,
        description="Where a browser finds MLflow; by default VIDEOGEN_MLFLOW_UI, or where `make dev` serves it.",
    )

    def registry(self) -> ModelRegistry:
        """The library's registry for these URIs. Opens nothing yet."""
        settings = read_settings()
        tracking_uri = self.tracking_uri or settings.tracking_uri
        local = tracking_uri == settings.tracking_uri and tracking_uri.startswith("sqlite:")
        return ModelRegistry(
            tracking_uri,
            registry_uri=self.registry_uri or os.environ.get("MLFLOW_REGISTRY_URI") or None,
            artifact_root=settings.tracking_artifacts if local else None,
            ui=self.ui or os.environ.get("VIDEOGEN_MLFLOW_UI") or (_local_ui() if local else None),
        )


def _local_ui() -> str:
    return f"http://127.0.0.1:{os.environ.get('VIDEOGEN_MLFLOW_PORT') or 5000}"
