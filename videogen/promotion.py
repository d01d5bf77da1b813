"""The champion pointer moved, in the store first, then mirrored to MLflow, where people look for it.

The store decides what serves. A mirror that cannot be reached changes nothing about that: the version sensor sets the
alias right on its next tick.
"""

from collections.abc import Mapping

from videogen.errors import RegistryError
from videogen.registry import ModelRegistry
from videogen.resolve import CHAMPION
from videogen.store.records import Champion
from videogen.store.store import Store


def promote(store: Store, registry: ModelRegistry, champion: Champion, generation: int) -> tuple[Champion, str | None]:
    """Makes `champion` serve, if the pointer still stands at `generation` (0: there is none yet).

    Returns what serves now, and why MLflow could not be told, if so. Raises StoreConflict if the pointer was moved.
    """
    model = champion.label.rpartition("@")[0]
    return _mirrored(registry, store.promote(model, champion, generation), "promoted")


def roll_back(store: Store, registry: ModelRegistry, model: str) -> tuple[Champion, str | None]:
    """Makes the previous champion serve again, without a rebuild. Returns as `promote`. Raises RecordNotFound."""
    return _mirrored(registry, store.rollback(model), "rolled back to")


def _mirrored(registry: ModelRegistry, champion: Champion, how: str) -> tuple[Champion, str | None]:
    name, _, number = champion.label.rpartition("@")
    tags: Mapping[str, str] = {"videogen.champion_generation": str(champion.generation), "videogen.decision": how}
    try:
        registry.set_alias(name, CHAMPION, int(number))
        registry.set_tags(name, int(number), tags)
    except RegistryError as error:
        return champion, str(error)
    return champion, None
