"""What is worth making before anyone asks: likely repeats, while the device is idle."""

from collections.abc import Collection, Hashable
from typing import TypeVar

from videogen.scheduling.forecast import Forecast

Key = TypeVar("Key", bound=Hashable)


def likely_repeats(
    forecast: Forecast,
    requests: Collection[Key],
    cached: Collection[Key],
    now: float,
    *,
    idle: bool,
    allowed: bool,
    horizon_s: float = 600.0,
    likely: float = 0.5,
    most: int = 1,
) -> list[Key]:
    """Of requests that were seen before and are not cached, those that probably come again within `horizon_s`.

    `forecast` is of requests, each its own key. Nothing unless the device is idle and the installation allows it.
    """
    if not (idle and allowed):
        return []
    chances = {one: forecast.probability(one, 1, horizon_s, now) for one in requests if one not in cached}
    return sorted((one for one in chances if chances[one] >= likely), key=lambda one: -chances[one])[:most]
