"""FVD and KVD for people: the numbers in a line each, and how to read them."""

from collections.abc import Mapping
from typing import Any

HOW_TO_READ = (
    "FVD and KVD are distances from the reference clips: the smaller, the nearer. The floor is how far apart two "
    "samples of the reference itself are at this sample size: an FVD at or below it is no different from the "
    "reference, as far as so few clips can tell. KVD is around 0 for the same distribution, and may be below; its "
    "interval says how noisy it is. Neither decides alone."
)


def in_words(distances: Mapping[str, Any]) -> dict[str, str]:
    """What `distances.json` of a judgement holds, by name; empty where no distances could be taken."""
    if "fvd" not in distances:
        return {}
    kvd, floor = distances["kvd"], distances["floor"]
    words = {
        "FVD": f"{distances['fvd']:.0f} on {distances['n']} clips",
        "KVD": f"{kvd['value']:.0f} [{kvd['low']:.0f}, {kvd['high']:.0f}] on {distances['n']} clips",
    }
    if floor:
        words["FVD"] += f"; floor {floor['fvd']:.0f}"
        words["KVD"] += f"; floor [{floor['kvd_low']:.0f}, {floor['kvd_high']:.0f}]"
    return words
