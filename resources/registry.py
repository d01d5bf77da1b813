"""The model registry, as an asset or a sensor gets it."""

import os

import dagster as dg
from pydantic import Field

from videogen.opening import open_registry
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
        given = {
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            "MLFLOW_REGISTRY_URI": self.registry_uri,
            "VIDEOGEN_MLFLOW_UI": self.ui,
        }
        return open_registry(read_settings(os.environ | {name: value for name, value in given.items() if value}))
