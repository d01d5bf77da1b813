"""Clips to test with: a bright square that crosses a dark ground, as uint8 frames."""

import numpy as np


def moving_square(frames: int = 16, size: int = 64, colour: tuple[int, int, int] = (235, 33, 31)) -> np.ndarray:
    """(frames, size, size, 3); the square, a quarter of a side wide, goes from left to right."""
    clip = np.full((frames, size, size, 3), (20, 30, 60), np.uint8)
    side = size // 4
    for index in range(frames):
        left = index * (size - side) // max(frames - 1, 1)
        clip[index, size // 2 : size // 2 + side, left : left + side] = colour
    return clip
