"""What became of each configured target of a version: the line that the assets after `engine` work on."""

import json
from collections.abc import Sequence

import dagster as dg

from videogen.proving import Proof
from videogen_assets.references import latest_json

TARGETS = "targets"


def as_metadata(proofs: Sequence[Proof]) -> dg.JsonMetadataValue:
    """For the materialisation of `engine`."""
    return dg.MetadataValue.json([json.loads(proof.to_json()) for proof in proofs])


def proofs_of(instance: dg.DagsterInstance, label: str) -> list[Proof]:
    """What `engine` left for the version. Raises NotMaterialised."""
    return [Proof.from_json(json.dumps(proof)) for proof in latest_json(instance, "engine", label, TARGETS)]


def proven(instance: dg.DagsterInstance, label: str) -> list[Proof]:
    """Those that may be measured further."""
    return [proof for proof in proofs_of(instance, label) if proof.state == "proven"]
