"""What an engine is the product of. Equal keys, equal engines: it is built once and shared."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from videogen.engines.base import Precision, ShapeProfile, Target

EXPORT_REVISION = 1
"""Raise it when `export.py`, `layout.py`, `networks.py` or `sampler.py` write another graph for the same weights."""

EXPORTERS = ("torch", "diffusers", "transformers", "onnxscript", "onnx")


@dataclass(frozen=True, slots=True)
class GraphKey:
    """`weights_digest` is the model version's: the digest of its manifest."""

    weights_digest: str
    precision: Precision
    profile: ShapeProfile
    sampler_sigmas: tuple[float, ...]
    exporter: tuple[str, ...]
    revision: int = EXPORT_REVISION

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return _digest(self)


@dataclass(frozen=True, slots=True)
class EngineKey:
    """`graph_digest` is that of the graph folder's manifest, `architecture` what the builder compiles for."""

    weights_digest: str
    graph_digest: str
    builder: Target
    builder_version: str
    architecture: str
    precision: Precision
    profile: ShapeProfile

    @property
    def digest(self) -> str:
        """64 hexadecimal digits."""
        return _digest(self)


def exporter_versions() -> tuple[str, ...]:
    """Name and version of every package that decides what an exported graph looks like."""
    return tuple(f"{name} {_version(name)}" for name in EXPORTERS)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


def _digest(key: GraphKey | EngineKey) -> str:
    text = json.dumps([type(key).__name__, dataclasses.asdict(key)], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
