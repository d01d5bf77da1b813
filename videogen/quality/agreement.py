"""How often clips show what their prompts name: per attribute and all five at once, with Wilson intervals."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

from videogen.errors import QualityError
from videogen.quality.oracle import Verdict
from videogen.world.grammar import FIELDS, Attributes

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Proportion:
    """`right` of `n`, as a share in [0, 1] with its interval."""

    right: int
    n: int
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One clip: what its prompt names, and what the oracle saw."""

    wanted: Attributes
    seen: Verdict

    @property
    def right(self) -> dict[str, bool]:
        """Whether each attribute is as wanted. An attribute that could not be told is not."""
        return {field: self.seen.value(field) == getattr(self.wanted, field) for field in FIELDS}

    @property
    def is_right(self) -> bool:
        """All five at once."""
        return all(self.right.values())

    def row(self) -> dict[str, str | bool]:
        """A row of the per-clip table: the value of each attribute, "wanted, got other" where it is wrong."""
        cells: dict[str, str | bool] = {}
        for field, right in self.right.items():
            wanted = getattr(self.wanted, field)
            cells[field] = wanted if right else f"{wanted}, got {self.seen.value(field) or 'nothing clear'}"
        return cells | {"agrees": self.is_right}


@dataclass(frozen=True, slots=True)
class Agreement:
    """The clips, in order, and their shares."""

    clips: tuple[Judged, ...]
    joint: Proportion
    fields: dict[str, Proportion]

    @property
    def n(self) -> int:
        """How many clips."""
        return len(self.clips)

    @property
    def hits(self) -> list[bool]:
        """Whether each clip shows all five attributes: what a paired comparison takes."""
        return [clip.is_right for clip in self.clips]

    def rows(self) -> list[dict[str, str | bool]]:
        """The per-clip table."""
        return [clip.row() for clip in self.clips]

    def shares(self) -> dict[str, Proportion]:
        """The five attributes, then "joint"."""
        return {**self.fields, "joint": self.joint}


def wilson(right: int, n: int, level: float = LEVEL) -> Proportion:
    """The score interval of a share (Wilson 1927). Raises QualityError unless 0 <= right <= n and n > 0."""
    if n <= 0 or not 0 <= right <= n:
        raise QualityError(f"{right} of {n} is no share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, penalty = right / n, z * z / n
    middle = (share + penalty / 2) / (1 + penalty)
    reach = z * math.sqrt(share * (1 - share) / n + penalty / (4 * n)) / (1 + penalty)
    low, high = max(0.0, middle - reach), min(1.0, middle + reach)
    return Proportion(right, n, share, 0.0 if right == 0 else low, 1.0 if right == n else high)


def agreement(pairs: Iterable[tuple[Attributes, Verdict]], level: float = LEVEL) -> Agreement:
    """The agreement of judged clips. Raises QualityError where there are none."""
    clips = tuple(Judged(wanted, seen) for wanted, seen in pairs)
    rights = [clip.right for clip in clips]
    fields = {field: wilson(sum(right[field] for right in rights), len(clips), level) for field in FIELDS}
    return Agreement(clips, wilson(sum(clip.is_right for clip in clips), len(clips), level), fields)


def pair(wanted: Mapping[str, str], seen: Mapping[str, str | None]) -> tuple[Attributes, Verdict]:
    """A pair out of stored mappings; an attribute missing from `seen` (a clip that failed) could not be told."""
    return Attributes(**wanted), Verdict(**{field: seen.get(field) for field in FIELDS})
