"""What is served although it passed no gates: a model's folder, or a version that the registry has."""

from pathlib import Path

from videogen.artifacts import Artifacts
from videogen.devices import Device
from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused, EngineUnavailable, InvalidRequest
from videogen.labels import parse_label
from videogen.models.spec import read_spec
from videogen.opening import open_registry
from videogen.resolve import pull, runnable_targets
from videogen.serving.engine.messages import VersionToLoad
from videogen.serving.versions.preparing import Prepared
from videogen.serving.versions.served import ServedVersion
from videogen.settings import Settings, Target


def prepare_ungated(reference: str, artifacts: Artifacts, device: Device, settings: Settings) -> Prepared:
    """A folder, or NAME@NUMBER, whose files are fetched if they are not here; for one of the targets of the settings.

    Raises InvalidRequest, EngineUnavailable where none of them runs on `device`, RegistryError, ArtifactError.
    """
    target = _target(settings, device)
    if Path(reference).is_dir():
        return _folder(Path(reference), target)
    if "@" not in reference:
        allowed = "with --ungated, NAME@NUMBER of the registry, or a model's folder; there is no such folder"
        raise InvalidRequest("--model", reference, allowed)
    registry = open_registry(settings)
    found = registry.version(*parse_label(reference))
    if found.digest is None:
        allowed = "a version that was registered with its manifest, or pinned (see: the asset model_weights)"
        raise InvalidRequest("--model", reference, allowed)
    folder, _ = pull(registry, artifacts, found)
    return _prepared(folder, found.name, found.label, found.digest, target)


def _target(settings: Settings, device: Device) -> Target:
    for target in runnable_targets(device):
        if target in settings.targets:
            return target
    raise EngineUnavailable(f"none of VIDEOGEN_TARGETS ({', '.join(settings.targets)}) runs on {device}")


def _folder(folder: Path, target: Target) -> Prepared:
    from videogen.manifest import build_manifest

    try:
        name, digest = read_spec(folder).name, build_manifest(folder).digest
        return _prepared(folder, name, f"{name}@{digest[:12]}", digest, target)
    except (ArtifactMissing, ArtifactCorrupt, ArtifactRefused) as error:
        raise InvalidRequest("model", str(folder), f"a folder in diffusers' form: {error}") from error


def _prepared(folder: Path, name: str, label: str, digest: str, target: Target) -> Prepared:
    from videogen.models.loading import load_tokenizer

    spec, words = read_spec(folder), getattr(load_tokenizer(folder), "vocabulary", None)
    version = ServedVersion(name, label, digest, spec, None if words is None else tuple(words), ungated=True)
    return version, VersionToLoad(digest, label, str(folder.absolute()), target, ungated=True)
