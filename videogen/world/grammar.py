"""The captioned world of moving shapes: its attributes, its captions, and which combinations are held out.

A caption names five attributes (size, colour, shape, motion, background) in one of several wordings. The
word lists here are the whole vocabulary of `videogen-tiny`; `renderer.py` draws what they mean.
"""

import hashlib
import itertools
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass

WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "size": {
        "small": ("small", "tiny", "little"),
        "medium": ("medium", "mid-sized", "medium-sized"),
        "large": ("large", "big", "huge"),
    },
    "colour": {
        "red": ("red", "crimson", "scarlet"),
        "orange": ("orange", "tangerine"),
        "yellow": ("yellow", "golden"),
        "green": ("green", "emerald"),
        "cyan": ("cyan", "turquoise"),
        "blue": ("blue", "cobalt"),
        "pink": ("pink", "magenta"),
        "white": ("white", "snowy"),
    },
    "shape": {
        "circle": ("circle", "disc", "ball"),
        "square": ("square", "box"),
        "triangle": ("triangle", "wedge"),
        "star": ("star", "pentagram"),
        "ring": ("ring", "hoop"),
    },
    "motion": {
        "right": ("moving right", "sliding to the right", "going right"),
        "left": ("moving left", "sliding to the left", "going left"),
        "up": ("moving up", "rising", "going up"),
        "down": ("moving down", "falling", "going down"),
        "bounce": ("bouncing", "hopping", "bouncing up and down"),
        "circle": ("circling", "orbiting", "moving in a circle"),
        "sway": ("swaying", "swinging from side to side", "swaying from side to side"),
        "still": ("staying still", "standing still", "not moving"),
    },
    "background": {
        "black": ("black", "dark"),
        "grey": ("grey", "gray"),
        "striped": ("striped", "stripy"),
        "checkered": ("checkered", "chequered"),
        "dotted": ("dotted", "spotted"),
        "gradient": ("gradient", "shaded"),
    },
}

TEMPLATES: tuple[str, ...] = (
    "a {size} {colour} {shape} {motion} on a {background} background",
    "{size} {colour} {shape} {motion} over a {background} background",
    "on a {background} background a {size} {colour} {shape} is {motion}",
    "a {colour} {shape} that is {size} and {motion} on a {background} backdrop",
    "the {colour} {size} {shape} is {motion} against a {background} backdrop",
)

FIELDS: tuple[str, ...] = tuple(WORDS)
HELD_OUT_ONE_IN = 8


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a clip shows. Each field holds a key of `WORDS[field]`."""

    size: str
    colour: str
    shape: str
    motion: str
    background: str

    def __post_init__(self) -> None:
        for field, value in asdict(self).items():
            if value not in WORDS[field]:
                raise ValueError(f"{field}: got {value!r}, allowed are {', '.join(WORDS[field])}")

    def indices(self) -> tuple[int, ...]:
        """The five class indices, in the order of `FIELDS`."""
        return tuple(list(WORDS[field]).index(getattr(self, field)) for field in FIELDS)


def combinations() -> Iterator[Attributes]:
    """All 5,760 combinations, in a fixed order."""
    for values in itertools.product(*(WORDS[field] for field in FIELDS)):
        yield Attributes(*values)


def is_held_out(attributes: Attributes) -> bool:
    """True for the one combination in eight that training never sees, in any wording.

    Decided by a hash of the attributes alone, so the split survives a reordering of the word lists.
    """
    key = "/".join(getattr(attributes, field) for field in FIELDS)
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") % HELD_OUT_ONE_IN == 0


def caption(attributes: Attributes, rng: random.Random | None = None) -> str:
    """One sentence for `attributes`: the plainest without `rng`, a random wording with it."""
    if rng is None:
        template, words = TEMPLATES[0], {f: WORDS[f][getattr(attributes, f)][0] for f in FIELDS}
    else:
        template = rng.choice(TEMPLATES)
        words = {f: rng.choice(WORDS[f][getattr(attributes, f)]) for f in FIELDS}
    return template.format(**words)


def vocabulary() -> list[str]:
    """Every word a caption can hold, sorted."""
    phrases = [phrase for field in WORDS.values() for wordings in field.values() for phrase in wordings]
    fixed = [template.format(**dict.fromkeys(FIELDS, "")) for template in TEMPLATES]
    return sorted({word for text in (*phrases, *fixed) for word in text.split()})
