"""Each peer's best settings for each load, found on this machine by trying a few; kept in a file."""

import json
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.peers import cells
from tests.benchmarks.peers.systems import Device, Peer, Running, Settings, running

CONNECTIONS = (4, 16, 64)
BATCHES, WAITS_MS = (8, 16), (0, 10, 50)
CLOSED_S, OPEN_S = 2.0, 4.0
Measure = Callable[[Running], Awaitable[dict[str, float]]]
"""A load's name -> how good it is, more is better."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What one setting gave at one load."""

    load: str
    settings: Settings
    value: float


class Tuner:
    """Tries settings of one peer on one device."""

    def __init__(self, peer: Peer, device: Device, limits: dict[int, float], capacity: float, folder: Path) -> None:
        self._peer, self._device, self._limits, self._capacity = peer, device, limits, capacity
        self._folder = folder / f"tune-{peer.name}"
        self.tried: list[Tried] = []

    async def closed(self) -> None:
        """Batch and window, at each number of connections."""
        engine = self._device.kind == "engine"
        for batch in (1, 4) if engine else BATCHES:
            for wait_ms in (0,) if engine else WAITS_MS:
                settings = Settings(batch, wait_ms, workers=2 if engine else 1)
                await self._try(settings, self._rates)

    async def goodput(self) -> None:
        """Batch, and how long a request may wait before it is dropped, in overload."""
        limit = self._limits[cells.SHORT]
        for batch in (8, 12, 16):
            spare = limit if self._peer.name == "mosec" else limit - cells.SHORT * self._device.step_s(batch)
            for timeout_s in (0.0, spare):
                await self._try(Settings(batch, 0, timeout_s=timeout_s), self._goodput)

    async def mix(self) -> None:
        """One queue or two, and the batch."""
        for layout in ("joint", "split", *(["priority"] if self._peer.name == "pytriton" else [])):
            for batch in BATCHES:
                await self._try(Settings(batch, 0, layout), self._mix)

    async def _try(self, settings: Settings, measure: Measure) -> None:
        wish = next(cells.wishes(cells.SHORT))
        async with running(self._peer, settings, self._device, wish, self._folder) as server:
            for load, value in (await measure(server)).items():
                self.tried.append(Tried(load, settings, value))

    async def _rates(self, server: Running) -> dict[str, float]:
        found = {count: await cells.closed(server, count, CLOSED_S) for count in CONNECTIONS}
        return {f"closed {count}": cell.rate for count, cell in found.items()}

    async def _goodput(self, server: Running) -> dict[str, float]:
        given = cells.arrivals(1.2 * self._capacity, OPEN_S, 1)
        return {"goodput": (await cells.opened(server, given, OPEN_S, self._limits)).good}

    async def _mix(self, server: Running) -> dict[str, float]:
        given = cells.arrivals(mix_rate(self._device, self._capacity), OPEN_S, 2, 1 - cells.SHORT_SHARE)
        return {"mix": -(await cells.opened(server, given, OPEN_S, self._limits)).short_p95}


def mix_rate(device: Device, capacity: float) -> float:
    """Of the mix, a second: 0.7 of what the device can do of it. `capacity` is of the short ones alone."""
    steps = cells.SHORT_SHARE * cells.SHORT + (1 - cells.SHORT_SHARE) * cells.LONG
    return 0.7 * capacity * cells.SHORT / steps


def best(tried: Iterable[Tried], load: str) -> Tried:
    """Of two as good the one that was tried first."""
    found = [one for one in tried if one.load == load]
    return max(found, key=lambda one: -math.inf if math.isnan(one.value) else one.value)


def save(path: Path, tried: list[Tried]) -> None:
    path.write_text(json.dumps([asdict(one) for one in tried], indent=1))


def read(path: Path) -> list[Tried]:
    return [Tried(one["load"], Settings(**one["settings"]), one["value"]) for one in json.loads(path.read_text())]
