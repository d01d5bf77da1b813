"""What one asset tells the next: small values in the metadata of its latest materialisation, never tensors."""

from typing import Any

import dagster as dg

DIGEST = "version_digest"
"""The metadata name under which `model_weights` leaves the version's identity, which is also its artifact's key."""


class NotMaterialised(dg.Failure):
    """An asset was asked for before what it stands on exists."""

    def __init__(self, asset: str, partition: str) -> None:
        super().__init__(f"{asset} has no materialisation for {partition}; materialise it first", allow_retries=False)


def reference(instance: dg.DagsterInstance, asset: str, partition: str, name: str) -> str:
    """The text that `asset` left under `name` when it was last materialised for `partition`."""
    entry = latest(instance, asset, partition).get(name)
    if not isinstance(entry, dg.TextMetadataValue) or entry.text is None:
        raise NotMaterialised(f"{asset} ({name})", partition)
    return entry.text


def latest(instance: dg.DagsterInstance, asset: str, partition: str) -> dict[str, dg.MetadataValue]:
    """The metadata of the latest materialisation. Raises NotMaterialised."""
    records = dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition])
    found = instance.fetch_materializations(records, limit=1).records
    if not found or found[0].asset_materialization is None:
        raise NotMaterialised(asset, partition)
    return dict(found[0].asset_materialization.metadata)


def latest_json(instance: dg.DagsterInstance, asset: str, partition: str, name: str) -> Any:
    """The JSON that `asset` left under `name`. Raises NotMaterialised."""
    entry = latest(instance, asset, partition).get(name)
    if not isinstance(entry, dg.JsonMetadataValue):
        raise NotMaterialised(f"{asset} ({name})", partition)
    return entry.data
