"""What was asked for with its seed, and may be asked for again."""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from videogen.scheduling.ahead import likely_repeats
from videogen.scheduling.forecast import Forecast
from videogen.serving.jobs import Caller

AHEAD = "made ahead"
"""Instead of an API key's id, in the name of whoever will probably ask."""
ASKERS_OWN = ("tenant", "lane", "priority", "deadline", "metadata")
"""Fields that say nothing of the video."""
MEMORY_S, HORIZON_S = 3600.0, 600.0
"""How long an arrival counts, and in which time a repeat has to be probable."""
MOST, MOST_LIKELY = 1000, 16
"""Requests that are remembered, and how many of the likeliest are told at once."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a tenant asks for, without what says nothing of the video."""

    tenant: str
    fields: Mapping[str, Any]


class Wishes:
    """One replica's. `clock` in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.came = asyncio.Event()
        """Set by whatever is asked."""
        self._forecast = Forecast(MEMORY_S, most=MOST)
        self._asked: OrderedDict[str, Wish] = OrderedDict()
        self._last = clock()

    @property
    def quiet_s(self) -> float:
        """Since something was asked."""
        return self.clock() - self._last

    def asked(self, fields: Mapping[str, Any], caller: Caller) -> None:
        """Somebody asked for a video, as `Service.submit` takes it."""
        if caller.key_id == AHEAD:
            return
        self._last = self.clock()
        self.came.set()
        if fields.get("seed") is None:
            return  # its seed was drawn: nobody can ask for the same
        own = {name: value for name, value in fields.items() if name not in ASKERS_OWN}
        name = json.dumps([caller.tenant, own], sort_keys=True, default=str)
        self._forecast.arrived(name, self._last)
        self._asked[name] = Wish(caller.tenant, own)
        self._asked.move_to_end(name)
        if len(self._asked) > MOST:
            self._asked.popitem(last=False)

    def likely(self, *, idle: bool) -> list[Wish]:
        """Those that will probably be asked for again soon, the likeliest first; none unless the device is idle."""
        now = self.clock()
        names = likely_repeats(
            self._forecast, self._asked, (), now, idle=idle, allowed=True, horizon_s=HORIZON_S, most=MOST_LIKELY
        )
        return [self._asked[name] for name in names]
