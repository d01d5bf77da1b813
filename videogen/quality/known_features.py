"""I3D features that ship with the package: those of the reference clips, which are the same for every version.

`python -m training.reference_features` takes them again, whenever the prompts, the world or its coding change. A clip
that is not among them, be it by one pixel, is not known, and its features are taken anew.
"""

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from videogen.quality.i3d_weights import CHECKPOINT_SHA256

RECIPE = f"i3d-kinetics-400 logits v1 {CHECKPOINT_SHA256}"
FILE = Path(__file__).parent / "reference_features.safetensors"


def clip_key(clip: np.ndarray) -> str:
    """The digest of a clip's shape and content, and of how features are taken from it."""
    digest = hashlib.sha256(f"{RECIPE}{clip.shape}{clip.dtype}".encode())
    digest.update(clip.tobytes())
    return digest.hexdigest()[:40]


@functools.cache
def known_features() -> Mapping[str, np.ndarray]:
    """Clip key -> logits, float32 (400,)."""
    from safetensors.numpy import load_file

    stored = load_file(FILE)
    return {keys.tobytes().hex(): logits for keys, logits in zip(stored["keys"], stored["logits"], strict=True)}


def keep_features(clips: Sequence[np.ndarray], logits: np.ndarray, file: Path = FILE) -> None:
    """Writes the file of known features anew: `logits` (n, 400) of n clips."""
    from safetensors.numpy import save_file

    keys = np.stack([np.frombuffer(bytes.fromhex(clip_key(clip)), np.uint8) for clip in clips])
    save_file({"keys": keys, "logits": logits.astype(np.float32)}, file)
