"""One part of the comparison: all systems on one device, in turns, each with its best settings for each load."""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.benchmarks.peers import cells, tuning
from tests.benchmarks.peers.page import OURS, Part
from tests.benchmarks.peers.systems import Device, Peer, Running, Settings, System, Videogen, running

DEADLINE = f"{OURS}, deadline"
NAMES = {"synthetic": "Synthetic device", "engine": "The shipped model on its engine"}
Task = Callable[[Running], Awaitable[cells.Closed | cells.Open]]


class Bench:
    """One part: all systems on one device."""

    def __init__(self, device: Device, peers: dict[str, Peer], folder: Path, options: argparse.Namespace) -> None:
        self._device, self._peers, self._folder, self._options = device, peers, folder, options
        self._wish = cells.wishes(cells.SHORT)
        self.part = Part(NAMES[device.kind], {}, {})

    async def run(self) -> Part:
        part, loads, seconds = self.part, self._options.loads, self._options.seconds
        capacity = await self._limits()
        await self._tune(capacity)
        if "closed" in loads:
            tasks = {f"closed {count}": partial(_closed, count, seconds / 2) for count in tuning.CONNECTIONS}
            for number in range(self._options.rounds):
                await self._round(number, tasks)
            if self._device.kind == "engine":
                capacity = max(part.rates(load, system) for load, system in part.closed)
        part.rate, part.mix_rate = 1.2 * capacity, tuning.mix_rate(self._device, capacity)
        for number in range(self._options.rounds):
            given = {
                "goodput": cells.arrivals(part.rate, seconds, 10 + number),
                "mix": cells.arrivals(part.mix_rate, seconds, 20 + number, 1 - cells.SHORT_SHARE),
            }
            limits = dict(part.limits)
            tasks = {load: partial(_opened, given[load], seconds, limits) for load in given if load in loads}
            await self._round(number, tasks)
        return part

    async def _round(self, number: int, tasks: dict[str, Task]) -> None:
        """All loads of one system, then of the next; it is started again where a load wants other settings."""
        systems: list[System] = [Videogen(), *(peer for name, peer in self._peers.items() if name in self.part.tried)]
        shift = number % len(systems)
        for system in systems[shift:] + systems[:shift]:
            by_settings: dict[Settings, list[str]] = {}
            for load in tasks:
                by_settings.setdefault(self._settings(system.name, load), []).append(load)
            for settings, loads in by_settings.items():
                async with self._server(system, settings) as server:
                    for load in loads:
                        self._note(load, system.name, await tasks[load](server))
                    if system.name == OURS and "goodput" in loads:
                        told = Settings(timeout_s=self.part.limits[cells.SHORT])
                        asked = replace(server, encode=system.encode(told, cells.SHORT))
                        self._note("goodput", DEADLINE, await tasks["goodput"](asked))

    def _note(self, load: str, name: str, found: cells.Closed | cells.Open) -> None:
        into = self.part.closed if isinstance(found, cells.Closed) else self.part.opened
        into.setdefault((load, name), []).append(found)
        sys.stderr.write(f"{self._device.kind} {load} {name}: {found}\n")

    async def _limits(self) -> float:
        """What a good answer may take, and the capacity as far as it is known before anything is measured."""
        device, part = self._device, self.part
        if device.kind == "synthetic":
            part.ideals = {f"closed {count}": cells.ideal(device, count) for count in tuning.CONNECTIONS}
            alone = {steps: steps * device.step_s(1) for steps in (cells.SHORT, cells.LONG)}
            part.limits = {steps: cells.SLO * seconds for steps, seconds in alone.items()}
            return cells.ideal(device, device.largest)
        async with self._server(Videogen(), Settings()) as server:
            for steps in (cells.SHORT, cells.LONG):
                found = []
                for _ in range(9):
                    wish = cells.unlike(next(cells.wishes(steps)))
                    found.append(await cells.quiet(server.port, server.encode, lambda wish=wish: wish, 60.0))
                part.limits = {**part.limits, steps: cells.SLO * sorted(found)[len(found) // 2]}
        return 1 / (part.limits[cells.SHORT] / cells.SLO) * 2

    def _server(self, system: System, settings: Settings) -> AbstractAsyncContextManager[Running]:
        return running(system, settings, self._device, cells.unlike(next(self._wish)), self._folder / system.name)

    async def _tune(self, capacity: float) -> None:
        """On the synthetic device, which needs no CPU, all peers at once."""
        jobs = []
        for name, peer in self._peers.items():
            kept = self._options.venvs / f"{name}-{self._device.kind}.json"
            if kept.exists() and not self._options.tune:
                self.part.tried[name] = tuning.read(kept)
            else:
                jobs.append(self._tune_one(name, peer, capacity, kept))
        if self._device.kind == "synthetic":
            await asyncio.gather(*jobs)
        else:
            for job in jobs:
                await job

    async def _tune_one(self, name: str, peer: Peer, capacity: float, kept: Path) -> None:
        tuner = tuning.Tuner(peer, self._device, dict(self.part.limits), capacity, self._folder)
        try:
            await tuner.closed()
            if self._device.kind == "synthetic":
                await tuner.goodput()
                await tuner.mix()
        except RuntimeError as error:
            self.part.errors[name] = str(error)
            return
        tuning.save(kept, tuner.tried)
        self.part.tried[name] = tuner.tried

    def _settings(self, name: str, load: str) -> Settings:
        """What was found best for the load; on the engine, for what was not tried, what is best for many clients."""
        if name == OURS:
            return Settings()
        tried = self.part.tried[name]
        known = load if any(one.load == load for one in tried) else f"closed {max(tuning.CONNECTIONS)}"
        settings = self.part.settings[load, name] = tuning.best(tried, known).settings
        return settings


async def _closed(connections: int, seconds: float, server: Running) -> cells.Closed:
    return await cells.closed(server, connections, seconds)


async def _opened(given: cells.Arrivals, seconds: float, limits: dict[int, float], server: Running) -> cells.Open:
    return await cells.opened(server, given, seconds, limits)
