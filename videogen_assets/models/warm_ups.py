"""What `warm_up` measured of a version: the line that the assets after it work on."""

import dagster as dg

from videogen.artifacts import Artifacts
from videogen.warming import KIND, WarmUp, read_warm_up
from videogen_assets.references import latest_json

WARM_UPS = "warm_ups"


def as_metadata(found: dict[str, WarmUp]) -> dg.JsonMetadataValue:
    """For the materialisation of `warm_up`: target -> key among the artifacts."""
    return dg.MetadataValue.json({target: measured.folder.name for target, measured in found.items()})


def warm_ups_of(instance: dg.DagsterInstance, artifacts: Artifacts, label: str) -> dict[str, WarmUp]:
    """Target -> what was measured. Raises NotMaterialised, ArtifactMissing, ArtifactCorrupt."""
    keys = latest_json(instance, "warm_up", label, WARM_UPS)
    return {target: read_warm_up(artifacts.get(KIND, key)) for target, key in keys.items()}
