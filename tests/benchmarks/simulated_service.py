"""The simulator against the service: throughput and p95 of the same arrivals, at three loads.

    python -m tests.benchmarks.simulated_service

`videogen serve --synthetic` as a real process, asked over HTTP in an open loop: every request leaves when it is due.
What the simulator is told is measured before, at other loads: videos one by one give what an answer takes besides its
steps, more than the device can do gives what a step boundary takes. The device's T(B) is known: 40 + 5·B ms.
"""

import argparse
import asyncio
import math
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.shared import table, write
from tests.serving.running import Serve, serving
from videogen.client.sync import Client
from videogen.loads import calls as loads
from videogen.loads.http import Http
from videogen.loads.measured import Measured
from videogen.loads.openloop import run
from videogen.scheduling.arrivals import Kind, poisson, requests
from videogen.scheduling.costs import Affine
from videogen.scheduling.simulation import Fleet, Outcome, StoreCosts, capacity, simulate
from videogen.serving.overview import quantile

COSTS, KIND = Affine(0.04, 0.005), Kind("video", 4)
CAPACITY = capacity(Fleet(COSTS), KIND)
TOLERANCE = 0.15
ALONE, BUSY_S = 30, 6.0
"""Videos that are asked for one by one; how long twice what the device can do is asked of it."""
AFTER_S = 60.0
"""Simulated beyond the last arrival, so that all are answered."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Seconds: of an answer besides its steps, and of a step boundary."""

    answer_s: float
    boundary_s: float


@dataclass(frozen=True, slots=True)
class Told:
    """Answers a second while requests came, seconds of p50 and p95, the mean batch."""

    throughput: float
    p50: float
    p95: float
    batch: float
    doubt: str | None = None
    """Why the load generator may not have kept up."""


def play(service: Serve, times: Sequence[float], first_seed: int) -> Measured:
    """Asks for a video that nobody has asked for at each of these times."""

    async def ask() -> Measured:
        http = Http(service.url)
        try:
            planned = loads.plan(times, loads.kinds(None), first_seed=first_seed)
            return await run(planned, lambda call: http.generate(call.fields), most=5_000, timeout_s=300)
        finally:
            await http.close()

    measured = asyncio.run(ask())
    if bad := len(measured.taken) - measured.of("answered"):
        raise SystemExit(f"{bad} without a video: {measured.reasons}")
    return measured


def batches(client: Client) -> dict[int, int]:
    """Denoiser calls since the start, by batch size."""
    time.sleep(0.6)  # it tells every half second
    process: Mapping[str, Any] = client.stats()["process"]
    return {int(size): int(calls) for size, calls in process["batches"].items()}


def since(before: dict[int, int], after: dict[int, int]) -> dict[int, int]:
    return {size: calls - before.get(size, 0) for size, calls in after.items() if calls > before.get(size, 0)}


def mean(calls: dict[int, int]) -> float:
    return sum(size * count for size, count in calls.items()) / sum(calls.values())


def surroundings(service: Serve, client: Client) -> Surroundings:
    """Measured where nothing waits, and where the device never waits."""
    alone = play(service, [0.5 * number for number in range(ALONE)], first_seed=10**6)
    before = batches(client)
    busy = play(service, list(loads.uniform(2 * CAPACITY, BUSY_S)), first_seed=2 * 10**6)
    calls = since(before, batches(client))
    around = (quantile([one.took for one in alone.taken], 0.5) or math.nan) - KIND.steps * COSTS.step(KIND.key, 1, 1)
    device_s = sum(count * COSTS.step(KIND.key, size, 1) for size, count in calls.items())
    boundary_s = (max(one.at + one.took for one in busy.taken) - around - device_s) / sum(calls.values())
    return Surroundings(around - KIND.steps * boundary_s, boundary_s)


def of_service(service: Serve, client: Client, times: Sequence[float], seconds: float, first_seed: int) -> Told:
    before = batches(client)
    measured = play(service, times, first_seed)
    done = sum(one.at + one.took <= seconds for one in measured.taken)
    latency = measured.summary().latency
    p50, p95 = latency["p50"] or math.nan, latency["p95"] or math.nan
    return Told(done / seconds, p50, p95, mean(since(before, batches(client))), measured.doubt)


def of_simulator(around: Surroundings, times: Sequence[float], seconds: float) -> Told:
    fleet = Fleet(COSTS, store=StoreCosts(answer_s=around.answer_s), decision_s=around.boundary_s)

    def simulated(until: float) -> Outcome:
        return simulate(fleet, requests(times, [KIND]), until)

    whole = simulated(seconds + AFTER_S)
    return Told(simulated(seconds).throughput, whole.percentile(0.5), whole.percentile(0.95), whole.mean_batch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=float, nargs="+", default=[0.5, 0.8, 0.95], help="of what the device can do")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each load")
    options = parser.parse_args()
    rows, doubts, far = [], [], 0.0
    with (
        tempfile.TemporaryDirectory() as home,
        serving(Path(home), VIDEOGEN_TENANT_STREAMS="5000") as service,
        Client(f"127.0.0.1:{service.grpc}") as client,
    ):
        around = surroundings(service, client)
        for number, load in enumerate(options.loads):
            times = list(poisson(load * CAPACITY, options.seconds, seed=number))
            real = of_service(service, client, times, options.seconds, first_seed=(number + 3) * 10**6)
            played = of_simulator(around, times, options.seconds)
            off = [played.throughput / real.throughput - 1, played.p95 / real.p95 - 1]
            far = max(far, *map(abs, off))
            rows.append([f"{load:g}", *row(real, played, off)])
            doubts += [f"At {load:g} the load generator is in doubt: {real.doubt}."] if real.doubt else []
    lines = [
        f"`videogen serve --synthetic` on the embedded store: {KIND.steps} steps a video, at most 16 at once, so that",
        f"{CAPACITY:.1f} videos a second are its capacity. {options.seconds:g} s of Poisson arrivals for each load.",
        f"Measured before: an answer takes {1000 * around.answer_s:.1f} ms besides its steps (HTTP, store, hand-over),",
        f"a step boundary {1000 * around.boundary_s:.2f} ms.",
        *table(
            ["load", "videos/s: service", "simulator", "", "p50 ms", "", "p95 ms: service", "simulator", "",
             "mean batch"],
            rows,
        ),
        "",
        *doubts,
        f"The farthest is {far:.0%} off; the target is {TOLERANCE:.0%}: {'met' if far <= TOLERANCE else 'missed'}.",
    ]  # fmt: skip
    write("simulated_service", "The simulator and the service", __spec__.name, lines)


def row(real: Told, played: Told, off: Sequence[float]) -> list[str]:
    return [
        f"{real.throughput:.2f}", f"{played.throughput:.2f}", f"{off[0]:+.1%}",
        f"{1000 * real.p50:.0f}", f"{1000 * played.p50:.0f}",
        f"{1000 * real.p95:.0f}", f"{1000 * played.p95:.0f}", f"{off[1]:+.1%}",
        f"{real.batch:.2f}, {played.batch:.2f}",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
