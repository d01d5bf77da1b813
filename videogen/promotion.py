"""What becomes of a version: the champion pointer moved, or a refusal; told to MLflow, where people look for it.

The store decides what serves. A mirror that cannot be reached changes nothing about that: the version sensor sets the
alias right on its next tick.
"""

from collections.abc import Collection
from typing import Literal

from videogen.errors import RecordNotFound, RegistryError
from videogen.labels import parse_label
from videogen.registry import ModelRegistry
from videogen.resolve import CHAMPION
from videogen.store.records import Champion
from videogen.store.store import Store

CANDIDATE = "candidate"
"""The alias by which a person asks for a version to be measured, and promoted if it passes."""
ASKED = "videogen.asked"
"""On a version: differs with every time that a person asked for it."""
DECISION, REASON, GENERATION = "videogen.decision", "videogen.reason", "videogen.champion_generation"
Decision = Literal["promoted", "rolled back to", "replaced", "refused"]


def promote(
    store: Store, registry: ModelRegistry, champion: Champion, generation: int, reason: str
) -> tuple[Champion, str | None]:
    """Makes `champion` serve, if the pointer still stands at `generation` (0: there is none yet).

    Returns what serves now, and why MLflow could not be told, if so. Raises StoreConflict if the pointer was moved.
    """
    name, _ = parse_label(champion.label)
    before = store.champion(name)
    return _mirrored(registry, before, store.promote(name, champion, generation), "promoted", reason)


def roll_back(store: Store, registry: ModelRegistry, model: str) -> tuple[Champion, str | None]:
    """Makes the previous champion serve again, without a rebuild. Returns as `promote`.

    Raises RecordNotFound, which says how to go forward, if there is none.
    """
    before = store.champion(model)
    reason = f"in place of {before.label}" if before else ""
    try:
        champion = store.rollback(model)
    except RecordNotFound as error:
        raise RecordNotFound(f"{error}; {_way_forward(store, model)}") from error
    return _mirrored(registry, before, champion, "rolled back to", reason)


def serves(store: Store, registry: ModelRegistry, label: str, targets: Collection[str]) -> bool:
    """Whether a version is the champion, on all of `targets`. Raises VersionNotFound."""
    name, number = parse_label(label)
    champion, version = store.champion(name), registry.version(name, number)
    return champion is not None and champion.version_digest == version.digest and set(targets) <= set(champion.targets)


def refuse(store: Store, registry: ModelRegistry, label: str, reason: str) -> bool:
    """Tells MLflow that a version was refused, and why; False, and no reason told, where it serves all the same.

    It is no candidate any more, so that it can be asked for again.
    """
    name, number = parse_label(label)
    champion, version = store.champion(name), registry.version(name, number)
    if champion is not None and champion.version_digest == version.digest:
        _end_wish(registry, name, number)
        return False
    _decide(registry, label, "refused", reason)
    return True


def tell_late(registry: ModelRegistry, champion: Champion, number: int) -> None:
    """Tells MLflow of a champion that it was not told of when it came to serve, as version `number`."""
    name = parse_label(champion.label)[0]
    registry.set_alias(name, CHAMPION, number)
    if registry.version(name, number).tags.get(GENERATION) != str(champion.generation):
        registry.set_tags(name, number, {GENERATION: str(champion.generation)})
        _decide(registry, f"{name}@{number}", "promoted", "MLflow was told afterwards")


def _way_forward(store: Store, model: str) -> str:
    now = store.champion(model)
    others = [m.champion.label for m in store.champion_history(model) if now and m.champion.label != now.label]
    label = others[-1] if others else f"{model}@NUMBER"
    return f"videogen models promote {label} has {'that version' if others else 'another version'} measured anew"


def _mirrored(
    registry: ModelRegistry, before: Champion | None, champion: Champion, how: Decision, reason: str
) -> tuple[Champion, str | None]:
    name, number = parse_label(champion.label)
    try:
        registry.set_alias(name, CHAMPION, number)
        registry.set_tags(name, number, {GENERATION: str(champion.generation)})
        _decide(registry, champion.label, how, reason)
        if before is not None and before.version_digest != champion.version_digest:
            _decide(registry, before.label, "replaced", f"{champion.label} was {how}")
    except RegistryError as error:
        return champion, str(error)
    return champion, None


def _decide(registry: ModelRegistry, label: str, decision: Decision, reason: str) -> None:
    name, number = parse_label(label)
    registry.set_tags(name, number, {DECISION: decision, REASON: reason})
    _end_wish(registry, name, number)


def _end_wish(registry: ModelRegistry, name: str, number: int) -> None:
    if registry.aliases(name).get(CANDIDATE) == number:
        registry.delete_alias(name, CANDIDATE)
