"""From the name that a request uses for a model to one version's files: aliases are resolved at acceptance, once."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.errors import EngineUnavailable, InvalidRequest
from videogen.models.spec import ModelSpec, read_spec

if TYPE_CHECKING:
    from videogen.artifacts import Artifacts
    from videogen.devices import Device
    from videogen.registry import ModelRegistry, ModelVersion
    from videogen.settings import Target
    from videogen.store.records import Champion, ServedEngine
    from videogen.store.store import Store

CHAMPION = "champion"
WEIGHTS = "weights"
"""The kind under which the artifacts keep a version's files; the key is the version's digest."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """One model version: what it is called, what it is, where its files lie, which engines have passed its gates."""

    label: str
    version_digest: str
    folder: Path
    spec: ModelSpec
    targets: Mapping[str, "ServedEngine"]

    @property
    def vocabulary(self) -> Iterable[str] | None:
        """The words that its tokenizer knows; None where any text will do."""
        from videogen.models.loading import load_tokenizer

        return getattr(load_tokenizer(self.folder), "vocabulary", None)


def resolve_model(reference: str, store: "Store", artifacts: "Artifacts") -> ResolvedModel:
    """The version that `NAME`, `NAME@champion` or `NAME@NUMBER` stands for now; it has passed its gates.

    Raises InvalidRequest if the model has no champion, or if the number is neither the champion nor the one before it.
    """
    chosen = champion_of(reference, store)
    folder = artifacts.get(WEIGHTS, chosen.version_digest)
    return ResolvedModel(chosen.label, chosen.version_digest, folder, read_spec(folder), chosen.targets)


def champion_of(reference: str, store: "Store") -> "Champion":
    """What the pointer says that a reference stands for; no file is looked at. Raises InvalidRequest as above."""
    name, _, wanted = reference.partition("@")
    champion = store.champion(name)
    if champion is None:
        ways = "make demo makes videogen-tiny's; videogen serve --ungated needs none; see: videogen models list"
        raise InvalidRequest("model", reference, f"a model with a champion; {name or 'this'} has none yet ({ways})")
    serving = {found.label: found for found in (champion, champion.previous) if found is not None}
    chosen = champion if wanted in ("", CHAMPION) else serving.get(reference)
    if chosen is None:
        raise InvalidRequest("model", reference, f"{name}, {name}@{CHAMPION} or {' or '.join(serving)}")
    return chosen


def pull(registry: "ModelRegistry", artifacts: "Artifacts", version: "ModelVersion") -> tuple[Path, bool]:
    """The files, as an artifact, of a registered version with a digest, and whether they were fetched now."""

    def fill(folder: Path) -> None:
        registry.pull(version.name, version.version, folder)

    assert version.digest is not None
    return artifacts.build(WEIGHTS, version.digest, fill)


def runnable_targets(device: "Device") -> tuple["Target", ...]:
    """Those that can run on this kind of device, the best first."""
    return ("cpu",) if device.kind == "cpu" else ("tensorrt", "tensorrt-rtx", "cpu")


def runnable_target(targets: Mapping[str, "ServedEngine"], device: "Device", label: str) -> "Target":
    """The target that serves on this kind of device. Raises EngineUnavailable, naming those that there are."""
    for target in runnable_targets(device):
        if target in targets:
            return target
    passed = ", ".join(targets) or "none"
    raise EngineUnavailable(f"{label}: no engine that passed its gates runs on {device}; those that did: {passed}")
