"""How facts look on a terminal: a name, a value, and below it what it is made of."""

from collections.abc import Iterator, Mapping
from typing import Any


def lines(facts: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """One line per fact, values in one column; an object's own facts stand below its name. Empty ones are left out."""
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {}, ())}
    width = max((len(name) for name, value in shown.items() if not isinstance(value, Mapping)), default=0)
    for name, value in shown.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from lines(value, indent + "  ")
        else:
            yield f"{indent}{name:<{width}}  {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}".rstrip("0").rstrip(".")
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
