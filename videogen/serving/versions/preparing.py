"""From a model's name to what an engine process is to load."""

from pathlib import Path

from videogen.artifacts import Artifacts
from videogen.devices import Device
from videogen.errors import InvalidRequest
from videogen.models.spec import ModelSpec
from videogen.resolve import resolve_model, runnable_target
from videogen.serving.engine.messages import VersionToLoad
from videogen.serving.versions.served import ServedVersion
from videogen.store.store import Store

Prepared = tuple[ServedVersion, VersionToLoad]


def prepare(reference: str, store: Store, artifacts: Artifacts, device: Device) -> Prepared:
    """The champion or the version before it, by name.

    Raises InvalidRequest, or EngineUnavailable where no engine that passed its gates runs on `device`.
    """
    if Path(reference).is_dir():
        raise InvalidRequest("model", reference, "a champion's name; or, with --ungated, a folder: it passed no gates")
    resolved = resolve_model(reference, store, artifacts)
    target = runnable_target(resolved.targets, device, resolved.label)
    engine = resolved.targets[target]
    words = resolved.vocabulary
    version = ServedVersion(
        resolved.spec.name,
        resolved.label,
        resolved.version_digest,
        resolved.spec,
        None if words is None else tuple(words),
    )
    return version, VersionToLoad(
        version_digest=resolved.version_digest,
        label=resolved.label,
        folder=str(resolved.folder),
        target=target,
        engine_key=engine.engine_key,
        precision=engine.precision,
    )


def synthetic(name: str = "synthetic") -> Prepared:
    """What a device without networks makes: `videogen-tiny`'s shape, any words."""
    spec = ModelSpec(name, num_inference_steps=4, guidance_scale=1.0, widths=(64,), heights=(64,), frames=(16,))
    version = ServedVersion(name, f"{name}@1", name, spec, None, ungated=True)
    return version, VersionToLoad(version_digest=name, label=version.label, folder="", ungated=True)
