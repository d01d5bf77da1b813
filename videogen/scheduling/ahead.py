"""What is worth doing before anyone asks: shapes to load and warm, and repeats to generate while the device is idle."""

from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from videogen.scheduling.forecast import Forecast

Key = TypeVar("Key", bound=Hashable)


def to_warm(
    forecast: Forecast,
    loading_s: Mapping[Key, float],
    ready: Collection[Key],
    now: float,
    *,
    horizon_s: float = 60.0,
    likely: float = 0.5,
    most: int = 1,
) -> list[Key]:
    """Keys to make ready, the likeliest first: one is probably asked for before `horizon_s` after it could be ready."""
    chances = {
        key: forecast.probability(key, 1, seconds + horizon_s, now)
        for key, seconds in loading_s.items()
        if key not in ready
    }
    return _likeliest(chances, likely, most)


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
    return _likeliest(chances, likely, most)


def _likeliest(chances: Mapping[Key, float], likely: float, most: int) -> list[Key]:
    return sorted((key for key, chance in chances.items() if chance >= likely), key=lambda key: -chances[key])[:most]
