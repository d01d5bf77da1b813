"""The content-addressed folders, as an asset gets them."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from videogen.artifacts import Artifacts
from videogen.opening import open_artifacts
from videogen.settings import read_settings


class ArtifactsResource(dg.ConfigurableResource):
    """Weights, graphs, engines and evaluation videos: each whole and verified, or not there."""

    url: str | None = Field(
        default=None,
        description="A local path or any URL that fsspec knows; by default VIDEOGEN_ARTIFACTS_URL, or the home folder.",
    )
    cache: str | None = Field(
        default=None, description="The local folder for what is remote; by default in the home folder."
    )

    def artifacts(self) -> Artifacts:
        """The library's artifacts under this URL."""
        return open_artifacts(read_settings(), self.url, Path(self.cache) if self.cache else None)
