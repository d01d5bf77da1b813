"""Takes the I3D features of the reference clips and ships them with the package.

python -m training.reference_features
"""

import argparse

import numpy as np

from videogen.artifacts import Artifacts
from videogen.evaluation import evaluation_prompts, reference_videos
from videogen.evidence import FEATURE_CLIPS, REFERENCE_CLIPS
from videogen.quality.gates import spoilt
from videogen.quality.i3d_fast import fast_logits
from videogen.quality.known_features import FILE, keep_features
from videogen.settings import read_settings


def reference_clips(fps: int) -> list[np.ndarray]:
    """The clips that versions are compared with, sharp and out of focus, uint8 (T, H, W, 3)."""
    sharp = reference_videos(evaluation_prompts(REFERENCE_CLIPS), fps)
    return [*sharp, *map(spoilt, sharp[:FEATURE_CLIPS])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fps", type=int, default=8, help="of the model that is compared; videogen-tiny's is 8")
    clips, settings = reference_clips(parser.parse_args().fps), read_settings()
    artifacts = Artifacts(settings.artifacts_url, settings.home / "artifacts-cache")
    keep_features(clips, fast_logits(artifacts, clips, settings.threads, fetch=True))
    print(f"{len(clips)} clips: {FILE}, {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
