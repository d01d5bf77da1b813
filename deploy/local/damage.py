"""A model that loads and runs but was damaged in its weights: what the gates of the demo have to find."""

import shutil
from pathlib import Path

import numpy as np

CROSS_ATTENTION_VALUES = ".attn2.to_v.weight"


def damage(source: Path, target: Path, seed: int = 0) -> Path:
    """Copies the model in `source` to `target` and shuffles, in every block, the rows of what text says to pixels.

    Every tensor keeps its shape, its type and its values' distribution; the same seed gives the same bytes.
    """
    from safetensors.numpy import load_file, save_file

    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("manifest.json"))
    rng, hit = np.random.default_rng(seed), 0
    for path in sorted((target / "transformer").glob("*.safetensors")):
        tensors = load_file(path)
        for name in sorted(tensors):
            if name.endswith(CROSS_ATTENTION_VALUES):
                tensors[name] = np.ascontiguousarray(rng.permutation(tensors[name]))
                hit += 1
        save_file(tensors, path, metadata={"format": "pt"})
    if not hit:
        raise ValueError(f"{source} has no cross-attention weights to damage")
    return target
