"""The first asset of a version: its files, here and whole."""

import tempfile
from pathlib import Path

import dagster as dg

from resources.artifacts import ArtifactsResource
from resources.registry import RegistryResource
from videogen.errors import ArtifactError
from videogen.registry import ModelRegistry, ModelVersion
from videogen.resolve import WEIGHTS, pull
from videogen_assets.checks import gate
from videogen_assets.jobs import MODEL_GROUP
from videogen_assets.labels import parse_label
from videogen_assets.partitions import model_versions
from videogen_assets.placement import OWNERS
from videogen_assets.references import DIGEST, reference
from videogen_assets.refusals import PATIENCE, final_refusals
from videogen_assets.shown import age, links, table


class Pull(dg.Config):
    """How to take a version that was registered without a manifest."""

    pin: bool = False
    """Take it as it is, once: what its files are now becomes its identity."""


@dg.asset(
    group_name=MODEL_GROUP,
    partitions_def=model_versions,
    kinds={"mlflow", "safetensors"},
    owners=OWNERS,
    code_version="1",
    retry_policy=PATIENCE,
)
def model_weights(
    context: dg.AssetExecutionContext, config: Pull, registry: RegistryResource, artifacts: ArtifactsResource
) -> dg.MaterializeResult:
    """The version's files, pulled from MLflow: safetensors only, each one equal to what was registered."""
    with final_refusals():
        version = find_version(registry.registry(), context.partition_key, config.pin)
        store = artifacts.artifacts()
        folder, is_new = pull(registry.registry(), store, version)
        manifest = store.manifest(WEIGHTS, folder.name)
    files = [
        {"file": name, "MiB": entry.bytes / 2**20, "sha256": entry.sha256} for name, entry in manifest.files.items()
    ]
    return dg.MaterializeResult(
        metadata={
            DIGEST: manifest.digest,
            "weights/size_mib": manifest.size / 2**20,
            "weights/files": len(files),
            "state": "pulled and verified" if is_new else f"reused, pulled {age(folder)} ago; verified again",
            "files": table(files),
            "description": version.description,
            "source": version.source,
            **links({"mlflow": registry.registry().ui_url(version)}),
        },
        data_version=dg.DataVersion(manifest.digest),
    )


@gate(
    model_weights,
    "Every file is byte for byte what its manifest says, and the manifest is the registered one.",
    retry_policy=PATIENCE,
)
def files_intact(
    context: dg.AssetCheckExecutionContext, registry: RegistryResource, artifacts: ArtifactsResource
) -> dg.AssetCheckResult:
    with final_refusals():
        registered = registry.registry().version(*parse_label(context.partition_key)).digest
    kept = reference(context.instance, "model_weights", context.partition_key, DIGEST)
    reason = "all files verified"
    try:
        artifacts.artifacts().get(WEIGHTS, kept)
    except ArtifactError as error:
        reason = str(error)
    else:
        if kept != registered:
            reason = f"these are the files of {kept}, MLflow has registered {registered}"
    passed = reason == "all files verified"
    outcome = "pass" if passed else "fail"
    return dg.AssetCheckResult(passed=passed, description=reason, metadata={"outcome": outcome, "reason": reason})


def find_version(registry: ModelRegistry, label: str, pin: bool) -> ModelVersion:
    """The version as MLflow has it. Raises VersionNotFound, ArtifactRefused."""
    name, number = parse_label(label)
    version = registry.version(name, number)
    if version.digest is None:
        with tempfile.TemporaryDirectory() as scratch:
            registry.pull(name, number, Path(scratch) / "model", pin=pin)
        version = registry.version(name, number)
    return version
