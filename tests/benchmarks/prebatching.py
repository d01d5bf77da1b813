"""Holding a batch open where the forecast says that it pays: a replayed bursty trace, with and without.

    python -m tests.benchmarks.prebatching

One device under a simulated clock, with the scheduler that serves. Every request has a deadline. The trace is drawn
once for each rate and replayed; `--trace FILE` replays another, seconds of arrival one a line. Callers who ask again as
soon as they are answered, and requests that come independently of each other, have tables of their own.
"""

import argparse
from pathlib import Path

from tests.benchmarks.shared import table, write
from tests.scheduling.closed_loop import Closed, closed_loop
from videogen.scheduling.arrivals import Kind, bursty, poisson, requests
from videogen.scheduling.costs import Affine
from videogen.scheduling.simulation.fleet import Fleet, capacity
from videogen.scheduling.simulation.outcome import Outcome
from videogen.scheduling.simulation.simulate import simulate

DEVICES = {"40 + 5·B ms": Affine(0.04, 0.005), "40 + 1·B ms": Affine(0.04, 0.001)}

BACK = {
    "in 12 ms and 1 ms for each of a batch": (0.012, 0.001, 0.0),
    "in 6 ms, 1 ms for each and 2 ms more on average": (0.006, 0.001, 0.002),
    "in 6 ms, 5 ms for each and 2 ms more on average": (0.006, 0.005, 0.002),
}
"""When callers are back after their video: all, for each whose video ended with it, and exponentially later."""
CALLERS, LOADS = (2, 4, 8, 16, 64), (0.5, 0.8, 0.95)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[10, 20, 40], help="requests a second, on average")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the trace")
    parser.add_argument("--deadline", type=float, default=0.5, help="seconds from arrival")
    parser.add_argument("--trace", type=Path)
    options = parser.parse_args()
    traces = {f"{rate:g} a second": list(bursty(rate, options.seconds, 1)) for rate in options.rates}
    if options.trace:
        traces = {options.trace.name: sorted(map(float, options.trace.read_text().split()))}
    rows, kept, more = [], 0, 0
    for name, costs in DEVICES.items():
        for steps in (1, 2, 4):
            for load, trace in traces.items():
                kind = Kind("video", steps, deadline_s=options.deadline)
                never, held = (
                    simulate(Fleet(costs, hold=hold), requests(trace, [kind]), options.seconds)
                    for hold in (False, True)
                )
                kept += not never.missed and not held.missed
                more += not never.missed and bool(held.missed)
                rows.append([name, steps, load, *compared(never, held)])
    lines = [
        f"A trace of {options.seconds:g} s in bursts (2 s in 10 s, five times as fast), one device; each request is to",
        f"end within {options.deadline:g} s. Never held → held where it pays, at most 50 ms.",
    ]
    said = f"Loads of which every deadline was kept without holding: {kept + more}; with it, of these: {kept}."
    tail = ["", said, "The others are more than the device can do in a burst, and miss deadlines either way."]
    head = ["a step", "steps", "load", "device ms a video", "mean batch", "p50 ms", "p95 ms", "deadlines missed"]
    body = [
        *lines,
        *table([*head, "held, % of the time"], rows),
        *tail,
        "",
        *callers(),
        "",
        *independent(options.seconds),
    ]
    write("prebatching", "Holding a batch open", __spec__.name, body)


def callers() -> list[str]:
    """A closed loop."""
    rows = []
    for count in CALLERS:
        cells = []
        for back_s, each_s, jitter_s in BACK.values():
            load = Closed(count, back_s=back_s, each_s=each_s, jitter_s=jitter_s)
            never, held = (closed_loop(load, hold=hold).rate / load.ideal() for hold in (False, True))
            cells.append(f"{never:.3f} → {held:.3f}")
        rows.append([str(count), *cells])
    lines = [
        "Callers who ask again as soon as they are answered, videos of 4 steps at 40 + 5·B ms: the rate, as a share of",
        "what T(B) allows if answering and asking take no time. Never held → held where it pays.",
    ]
    return [*lines, *table(["callers", *(f"back {name}" for name in BACK)], rows)]


def independent(seconds: float) -> list[str]:
    """Poisson arrivals, for which next to nothing should change."""
    rows = []
    for load in LOADS:
        kind, outcomes = Kind("video", 4), []
        for hold in (False, True):
            fleet = Fleet(DEVICES["40 + 5·B ms"], hold=hold)
            times = poisson(load * capacity(fleet, kind), seconds, 1)
            outcomes.append(simulate(fleet, requests(times, [kind]), seconds))
        never, held = outcomes
        rows.append([f"{load:g}", *compared(never, held)[1:4], f"{held.held_s / seconds:.1%}"])
    lines = [f"Requests that come independently of each other, {seconds:g} s, no deadlines, by share of the capacity."]
    return [*lines, *table(["load", "mean batch", "p50 ms", "p95 ms", "held, % of the time"], rows)]


def compared(never: Outcome, held: Outcome) -> list[str]:
    spared = 1 - held.device_s_per_video / never.device_s_per_video
    return [
        f"{1000 * never.device_s_per_video:.1f} → {1000 * held.device_s_per_video:.1f} ({-spared:+.1%})",
        f"{never.mean_batch:.2f} → {held.mean_batch:.2f}",
        *(f"{1000 * never.percentile(at):.0f} → {1000 * held.percentile(at):.0f}" for at in (0.5, 0.95)),
        f"{never.missed} → {held.missed} of {never.arrived}",
        f"{held.held_s / held.seconds:.1%}",
    ]


if __name__ == "__main__":
    main()
