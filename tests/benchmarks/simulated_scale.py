"""From one device to a thousand: where more of them stop to help, and which part is the limit.

    python -m tests.benchmarks.simulated_scale

The service under a simulated clock: each device has its own scheduler, all share one queue in a store. What a store
hands out and what a claim takes stand in `results/queue_depth.md`, a decision in `results/scheduler_decision.md`.
"""

import argparse
import math
import time

from tests.benchmarks.shared import RESULTS, table, write
from videogen.media.charts import Series, line_chart
from videogen.scheduling.arrivals import Kind, poisson, requests
from videogen.scheduling.costs import Affine
from videogen.scheduling.simulation import Fleet, Outcome, StoreCosts, capacity, simulate

COSTS, KIND = Affine(0.04, 0.005), Kind("video", 4)
STORES = {
    "no store": StoreCosts(),
    "embedded": StoreCosts(248, 0.01064),
    "redis": StoreCosts(148, 0.02774),
    "aerospike": StoreCosts(295, 0.02381),
}
"""Videos claimed and published a second by as many claimers as gave most, and a claim of 16 at 10,000 waiting."""


def play(devices: int, store: StoreCosts, load: float, decision_s: float, requests_most: int) -> tuple[Outcome, float]:
    """The outcome, and the seconds that it took to simulate."""
    fleet = Fleet(COSTS, devices, store=store, decision_s=decision_s, queue_s=5.0)
    rate = load * devices * capacity(fleet, KIND)
    seconds = max(2.0, min(60.0, requests_most / rate))
    start = time.process_time()
    outcome = simulate(fleet, requests(poisson(rate, seconds, 1), [KIND]), seconds)
    return outcome, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
    parser.add_argument("--load", type=float, default=0.8, help="of what the devices can do")
    parser.add_argument("--decision-us", type=float, required=True, help="of `next` and `stepped` together")
    parser.add_argument("--requests", type=int, default=3_000, help="of one simulation, or those of 2 s if more")
    options = parser.parse_args()
    rows, series = [], {name: [] for name in STORES}
    decision_s, boundaries, slowest = options.decision_us / 1e6, 0.0, 0.0
    for devices in options.devices:
        cells = []
        for name, store in STORES.items():
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
        "Runs start with nothing under way and the shortest take 2 s: there, part of the answers is still to come.",
        *table(["devices", "asked", *STORES], rows),
        "",
        "![videos a second over devices](simulated_scale.svg)",
        "",
        "The store's queue is the limit, not the schedulers: every video is claimed from and published to one store.",
        "What it hands out keeps so many devices at work, and more of them wait for it:",
        "",
    ]
    lines += [
        f"- {name}: {store.videos_per_s:g} videos a second are the load of {store.videos_per_s / each:.1f} devices"
        for name, store in STORES.items()
        if math.isfinite(store.videos_per_s)
    ]
    lines += [
        "",
        f"A scheduler decides for its own device alone, {often}, {options.decision_us:g} µs each:",
        f"{boundaries * decision_s:.2%} of its time, however many devices there are. One for all of them would",
        f"be the limit at {1 / (boundaries * decision_s):,.0f} devices.",
        "",
        f"A simulated second took {slowest:.1f} CPU seconds at most.",
    ]
    write("simulated_scale", "From one device to a thousand, simulated", __spec__.name, lines)


if __name__ == "__main__":
    main()
