"""What counts as the frames of a clip, checked in one place."""

import numpy as np

from videogen.errors import InvalidFrames


def check_frames(frames: np.ndarray, name: str = "frames") -> None:
    """Raises InvalidFrames unless `frames` is uint8 (T, H, W, 3) with no empty axis."""
    if not isinstance(frames, np.ndarray):
        raise InvalidFrames(f"{name}: got {type(frames).__name__}; expected a uint8 array (frames, height, width, 3)")
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape:
        raise InvalidFrames(f"{name}: got shape {frames.shape}; expected (frames, height, width, 3), none of them 0")
    if frames.dtype != np.uint8:
        raise InvalidFrames(f"{name}: got {frames.dtype}; expected uint8")


def check_same_shape(reference: np.ndarray, candidate: np.ndarray) -> None:
    """Raises InvalidFrames unless both are clips of one shape."""
    check_frames(reference, "reference")
    check_frames(candidate, "candidate")
    if reference.shape != candidate.shape:
        raise InvalidFrames(f"reference has shape {reference.shape}, candidate {candidate.shape}; they must be equal")
