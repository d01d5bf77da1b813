"""I3D features of clips, taken once and kept, and the distances between two sets of them.

A Fréchet video distance at a few dozen clips is mostly bias, so it never stands alone: beside it are its sample size
(in its very name), the unbiased kernel distance with an interval, and the floor: what two samples of the reference
itself are apart.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from videogen.artifacts import Artifacts
from videogen.errors import QualityError
from videogen.quality.frechet import check_features, frechet
from videogen.quality.i3d_weights import CHECKPOINT_SHA256
from videogen.quality.known_features import RECIPE, clip_key, known_features
from videogen.quality.kvd import Estimate, kvd, kvd_interval

KIND = "features"
FILE = "features.safetensors"
COMPARABLE_N = 2048  # the sample size of published figures (StyleGAN-V, cd-fvd)
DEFAULT_N = 32
FLOOR_SPLITS = 20
RESIZE = "bilinear to 224x224, aspect ignored, half-pixel centres"


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """I3D logits (n, 400), float64, of clips of `frames` frames; row i is clip i."""

    values: np.ndarray
    frames: int

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, slots=True)
class Floor:
    """Distances between random disjoint halves of the reference, `n` clips each: what sameness looks like."""

    n: int
    fvd: float
    fvd_high: float
    kvd_low: float
    kvd_high: float


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances of `n` generated clips from `n` reference clips, and all that is needed to read them."""

    n: int
    frames: int
    fvd: float
    kvd: Estimate
    floor: Floor | None
    resize: str = RESIZE
    features: str = "400 logits, mean over time"
    weights_sha256: str = CHECKPOINT_SHA256

    @property
    def comparable_to_papers(self) -> bool:
        """Whether the sample is as large as that of published figures."""
        return self.n >= COMPARABLE_N

    @property
    def fvd_name(self) -> str:
        """What the Fréchet distance is called: it carries its sample size when that is small."""
        return "fvd_i3d" if self.comparable_to_papers else f"fvd_i3d[n={self.n}]"

    @property
    def kvd_name(self) -> str:
        """What the kernel distance is called."""
        return "kvd_i3d" if self.comparable_to_papers else f"kvd_i3d[n={self.n}]"

    def metrics(self) -> dict[str, float]:
        """Numbers under names that trackers allow, which admit no brackets: `fvd_i3d_n32`."""
        suffix = "" if self.comparable_to_papers else f"_n{self.n}"
        named = {f"fvd_i3d{suffix}": self.fvd, f"kvd_i3d{suffix}": self.kvd.value}
        named |= {f"kvd_i3d{suffix}_low": self.kvd.low, f"kvd_i3d{suffix}_high": self.kvd.high}
        if self.floor is not None:
            named |= {f"fvd_i3d_floor_n{self.floor.n}": self.floor.fvd}
        return named

    def record(self) -> dict[str, object]:
        """Everything, for JSON."""
        names = {"fvd_name": self.fvd_name, "kvd_name": self.kvd_name}
        return asdict(self) | names | {"comparable_to_papers": self.comparable_to_papers}


def content_key(clips: Sequence[np.ndarray]) -> str:
    """The digest of the clips, in their order, and of how features are taken from them."""
    return _joined([clip_key(clip) for clip in clips])


def _joined(keys: Sequence[str]) -> str:
    return hashlib.sha256(" ".join([RECIPE, *keys]).encode()).hexdigest()[:40]


def features(artifacts: Artifacts, clips: Sequence[np.ndarray], threads: int = 1, fetch: bool = False) -> FeatureSet:
    """I3D features of uint8 clips (T >= 9, H, W, 3), kept by the clips' content: the same clips cost nothing again.

    About 0.6 CPU seconds per clip of 16 frames, whatever their size; none for the clips that are known beforehand.
    `fetch` allows the download of the weights. Raises InvalidFrames, and MetricUnavailable where the weights can't be
    had: nothing stands in for them.
    """
    from safetensors.numpy import load_file, save_file

    if not clips:
        raise QualityError("no clips to take features of")
    known, keys = known_features(), [clip_key(clip) for clip in clips]
    if all(key in known for key in keys):
        return FeatureSet(np.stack([known[key] for key in keys]).astype(np.float64), len(clips[0]))

    def fill(scratch: Path) -> None:
        from videogen.quality.i3d_fast import fast_logits

        save_file({"logits": fast_logits(artifacts, clips, threads, fetch)}, scratch / FILE)

    folder, _ = artifacts.build(KIND, _joined(keys), fill)
    return FeatureSet(load_file(folder / FILE)["logits"], len(clips[0]))


def _floor(reference: np.ndarray, n: int, seed: int) -> Floor | None:
    size = min(n, len(reference) // 2)
    if size < 2:
        return None
    generator = np.random.default_rng(seed)
    fvds, kvds = [], []
    for _ in range(FLOOR_SPLITS):
        order = generator.permutation(len(reference))
        left, right = reference[order[:size]], reference[order[size : 2 * size]]
        fvds.append(frechet(left, right))
        kvds.append(kvd(left, right))
    low, high = np.quantile(kvds, [0.025, 0.975])
    return Floor(size, float(np.mean(fvds)), float(np.quantile(fvds, 0.975)), float(low), float(high))


def distances(reference: FeatureSet, generated: FeatureSet, seed: int = 0) -> Distances:
    """FVD and KVD of `generated` from `reference`, on as many clips of each: the first n, n the smaller number.

    With twice as many reference clips as generated ones, the floor is taken at n too; with fewer, at half of them.
    Raises QualityError when the clips are of different lengths, or fewer than 2.
    """
    if reference.frames != generated.frames:
        raise QualityError(f"clips of {reference.frames} and of {generated.frames} frames cannot be compared")
    n = min(len(reference), len(generated))
    bank = check_features(reference.values, "reference")
    real, made = bank[:n], check_features(generated.values, "generated")[:n]
    return Distances(n, reference.frames, frechet(real, made), kvd_interval(real, made, seed), _floor(bank, n, seed))
