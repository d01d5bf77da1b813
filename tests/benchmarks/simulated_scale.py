"""From one device to a thousand: where more of them stop to help, and which part is the limit.

    python -m tests.benchmarks.simulated_scale

The service under a simulated clock: each device has its own scheduler, all share one queue in a store. What a store
hands out and what a claim takes are read from `results/queue_depth.md`; what a decision takes is measured first.
"""

import argparse
import math
import statistics
import time

from tests.benchmarks.scheduler_decision import Load
from tests.benchmarks.shared import RESULTS, table, write
from videogen.media.charts import Series, line_chart
from videogen.scheduling.arrivals import Kind, poisson, requests
from videogen.scheduling.costs import Affine
from videogen.scheduling.simulation.fleet import Fleet, StoreCosts, capacity
from videogen.scheduling.simulation.outcome import Outcome
from videogen.scheduling.simulation.simulate import simulate

COSTS, KIND = Affine(0.04, 0.005), Kind("video", 4)
SHORTEST_S = 4.0
QUEUE = RESULTS / "queue_depth.md"
WAITING, BOUNDARIES = 100, 500
"""Jobs that wait at the scheduler whose decisions are timed, and how many."""


def stores() -> dict[str, StoreCosts]:
    """By backend: videos claimed and published a second by as many claimers as gave most, and the seconds of a claim of
    16 at 10,000 waiting.
    """
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in QUEUE.read_text().splitlines() if "|" in line]
    names = rows[0][1:]
    claim_ms = next(row[1:] for row in rows if row[0].startswith("claim 16, 10,000 waiting"))
    rates = [row[1:] for row in rows if row[0].startswith("claimed and published per second")]
    return {"no store": StoreCosts()} | {
        name: StoreCosts(max(float(row[at]) for row in rates), float(claim_ms[at].split()[0]) / 1000)
        for at, name in enumerate(names)
    }


def decision() -> float:
    """Median seconds of `next` and `stepped` together."""
    load = Load(WAITING)
    load.fill()
    for _ in range(BOUNDARIES):
        load.boundary()
        load.fill()
    return sum(statistics.median(load.taken[name]) for name in ("next", "stepped")) / 1e6


def play(devices: int, store: StoreCosts, load: float, decision_s: float, requests_most: int) -> tuple[Outcome, float]:
    """The outcome, and the seconds that it took to simulate."""
    fleet = Fleet(COSTS, devices, store=store, boundary_s=decision_s, queue_s=5.0)
    rate = load * devices * capacity(fleet, KIND)
    seconds = max(SHORTEST_S, min(60.0, requests_most / rate))
    start = time.process_time()
    outcome = simulate(fleet, requests(poisson(rate, seconds, 1), [KIND]), seconds)
    return outcome, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--load", type=float, default=0.8, help="of what the devices can do")
    parser.add_argument("--requests", type=int, default=3_000, help="of one simulation, or of its shortest time")
    options = parser.parse_args()
    known = stores()
    rows, series = [], {name: [] for name in known}
    decision_s, boundaries, slowest = decision(), 0.0, 0.0
    for devices in options.devices:
        cells = []
        for name, store in known.items():
            outcome, taken = play(devices, store, options.load, decision_s, options.requests)
            p95 = 1000 * outcome.percentile(0.95)
            seen = f"{outcome.throughput:,.0f}/s, p95 {p95:,.0f} ms, busy {outcome.utilisation:.0%}"
            cells.append(f"{seen}: {outcome.limit}")
            series[name].append((math.log10(devices), math.log10(max(outcome.throughput, 1e-3))))
            boundaries = max(boundaries, outcome.batches.total() / outcome.seconds / devices)
            slowest = max(slowest, taken / outcome.seconds)
        rows.append([f"{devices:,}", f"{options.load * devices * capacity(Fleet(COSTS), KIND):,.0f}/s", *cells])
    chart = line_chart(
        "Videos a second", [Series(name, points) for name, points in series.items()],
        "devices, power of ten", "videos a second, power of ten",
    )  # fmt: skip
    (RESULTS / "simulated_scale.svg").write_text(chart)
    each, often = options.load * capacity(Fleet(COSTS), KIND), f"{boundaries:.1f} times a second"
    lines = [
        f"A step takes 40 + 5·B ms, a video {KIND.steps} steps; Poisson load, {options.load:g} of what they can do;",
        "a request that would wait more than 5 s is refused. Each cell: answers, p95, devices busy, the limit.",
        f"Runs start with nothing under way and take {SHORTEST_S:g} s at least: there, part of the answers is still",
        "to come.",
        *table(["devices", "asked", *known], rows),
        "",
        "![videos a second over devices](simulated_scale.svg)",
        "",
        "The store's queue is the limit, not the schedulers: every video is claimed from and published to one store.",
        "What it hands out keeps so many devices at work, and more of them wait for it:",
        "",
    ]
    lines += [
        f"- {name}: {store.videos_per_s:g} videos a second are the load of {store.videos_per_s / each:.1f} devices"
        for name, store in known.items()
        if math.isfinite(store.videos_per_s)
    ]
    lines += [
        "",
        f"A scheduler decides for its own device alone, {often}, {1e6 * decision_s:.0f} µs each:",
        f"{boundaries * decision_s:.2%} of its time, however many devices there are. One for all of them would",
        f"be the limit at {1 / (boundaries * decision_s):,.0f} devices.",
        "",
        f"A simulated second took {slowest:.1f} CPU seconds at most.",
    ]
    write("simulated_scale", "From one device to a thousand, simulated", __spec__.name, lines)


if __name__ == "__main__":
    main()
