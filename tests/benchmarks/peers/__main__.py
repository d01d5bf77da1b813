"""`videogen serve` beside mosec, LitServe and PyTriton (Triton), on the same device under the same load.

    python -m tests.benchmarks.peers [--parts synthetic engine] [--peers mosec litserve pytriton] [--rounds 2]

Each peer is installed into an environment of its own under --venvs, and tuned there once per part: a few batch sizes,
windows, layouts and timeouts, the best kept for each load (--tune does it again). Then the systems take turns, each
started for the load with its settings for it and ended after. videogen has no settings but what its client says.
"""

import argparse
import asyncio
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from tests.benchmarks.peers import cells, page, tuning
from tests.benchmarks.peers.installing import PACKAGES, NotInstalled, python_of, version
from tests.benchmarks.peers.page import OURS, Part
from tests.benchmarks.peers.systems import Device, Peer, Running, Settings, System, Videogen, running
from tests.benchmarks.shared import ROOT, write

DEADLINE = f"{OURS}, deadline"
LOADS = ("closed", "goodput", "mix")
NAMES = {"synthetic": "Synthetic device", "engine": "The shipped model on its engine"}
WEAK = (
    "videogen records every request, claim and video in its store on the disk, and answers for it after a crash; the "
    "peers keep theirs in memory. A short answer of a peer's is given as soon as its whole batch is done."
)


class Bench:
    """One part: all systems on one device."""

    def __init__(self, device: Device, peers: dict[str, Peer], folder: Path, options: argparse.Namespace) -> None:
        self._device, self._peers, self._folder, self._options = device, peers, folder, options
        self._wish = cells.wishes(cells.SHORT)
        self.part = Part(NAMES[device.kind], {}, {})

    async def run(self) -> Part:
        capacity = await self._limits()
        await self._tune(capacity)
        part, seconds = self.part, self._options.seconds
        if self._device.kind == "engine" and "closed" in self._options.loads:
            await self._closed_loops()
            capacity = max((part.rates(load, system) for load, system in part.closed), default=capacity)
        elif "closed" in self._options.loads:
            await self._closed_loops()
        part.rate, part.mix_rate = 1.2 * capacity, tuning.mix_rate(self._device, capacity)
        for number in range(self._options.rounds):
            if "goodput" in self._options.loads:
                given = cells.arrivals(part.rate, seconds, 10 + number)
                await self._turns("goodput", number, lambda server, given=given: self._open(server, given))
            if "mix" in self._options.loads:
                given = cells.arrivals(part.mix_rate, seconds, 20 + number, 1 - cells.SHORT_SHARE)
                await self._turns("mix", number, lambda server, given=given: self._open(server, given))
        return part

    async def _open(self, server: Running, given: list) -> cells.Open:
        return await cells.opened(server, given, self._options.seconds, dict(self.part.limits))

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

    def _server(self, system: System, settings: Settings) -> "AsyncIterator[Running]":
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
        tried = self.part.tried[name]
        known = load if any(one.load == load for one in tried) else f"closed {max(tuning.CONNECTIONS)}"
        settings = self.part.settings[load, name] = tuning.best(tried, known).settings
        return settings

    async def _turns(self, load: str, number: int, measure: Callable[[Running], Awaitable[object]]) -> None:
        systems: list[tuple[str, System, Settings]] = [(OURS, Videogen(), Settings())]
        if load == "goodput":
            systems.append((DEADLINE, Videogen(), Settings(timeout_s=self.part.limits[cells.SHORT])))
        systems += [(name, peer, self._settings(name, load)) for name, peer in self._peers.items()
                    if name in self.part.tried]  # fmt: skip
        shift = number % len(systems)
        for name, system, settings in systems[shift:] + systems[:shift]:
            begun = time.monotonic()
            async with self._server(system, settings) as server:
                found = await measure(server)
            into = self.part.closed if isinstance(found, cells.Closed) else self.part.opened
            into.setdefault((load, name), []).append(found)
            sys.stderr.write(f"{self._device.kind} {load} {name} ({time.monotonic() - begun:.0f} s): {found}\n")

    async def _closed_loops(self) -> None:
        seconds = self._options.seconds / 2
        for number, count in itertools.product(range(self._options.rounds), tuning.CONNECTIONS):
            await self._turns(f"closed {count}", number, lambda server, n=count: cells.closed(server, n, seconds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument("--peers", nargs="*", choices=list(PACKAGES), default=list(PACKAGES))
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=LOADS)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="of an open loop; a closed one takes half of it")
    parser.add_argument("--venvs", type=Path, default=ROOT / "var" / "peers")
    parser.add_argument("--tune", action="store_true", help="look for each peer's best settings again")
    parser.add_argument("--no-page", action="store_true", help="print what was found, write no page")
    options = parser.parse_args()
    peers, versions, errors = {}, [], {}
    for name in options.peers:
        try:
            peers[name] = Peer(name, python_of(name, options.venvs))
            versions.append(f"{name} {version(name, peers[name].python)}")
        except NotInstalled as error:
            errors[name] = str(error)
    found, begun = [f"Beside {', '.join(versions)}. Medians of {options.rounds} rounds. {WEAK}", ""], time.monotonic()
    with tempfile.TemporaryDirectory(prefix="videogen-peers-") as folder:
        for kind in options.parts:
            part = asyncio.run(Bench(Device(kind), peers, Path(folder), options).run())
            part.errors |= errors
            found += page.lines(part)
            if kind == "synthetic" and part.closed and not options.no_page:
                page.chart(part)
                found += ["![videos a second over connections](peers.svg)", ""]
    found.append(f"All of it took {time.monotonic() - begun:.0f} s.")
    if options.no_page:
        print("\n".join(found))
    else:
        write("peers", "Beside other model servers", "tests.benchmarks.peers", found)


if __name__ == "__main__":
    main()
