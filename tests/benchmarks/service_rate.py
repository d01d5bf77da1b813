"""A thousand videos a minute, really made: latency, where the CPU goes, and the highest rate that holds its p99.

    python -m tests.benchmarks.service_rate

`videogen serve` of the champion that `make demo` left in --home, on an empty embedded store; without one, version 2 is
built first. Requests arrive at random (Poisson) and leave when they are due, over HTTP (`/v1/videos/sync`), and count
from then to the last byte of the MP4. The generator runs on the same cores. Every video is one that nobody asked for
before, except where the page says repeats.
"""

import argparse
import gc
import itertools
import math
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.served import STAGES, Spent, held, play, served, spent, stages
from tests.benchmarks.shared import RESULTS, ROOT, table, write
from tests.serving.running import Serve
from videogen.client.sync import Client
from videogen.commands.bench_load import charts
from videogen.engines.device import available_cores
from videogen.loads import calls as loads
from videogen.loads.answers import Answer
from videogen.loads.calls import Call
from videogen.loads.http import Http, judged
from videogen.loads.measured import Measured
from videogen.media.charts import Series, line_chart, stacked
from videogen.scheduling.arrivals import poisson

SLO_S = 0.5
WARM_S = 10.0
REST_S = 3.0
HIGHEST = 6.0
"""Times the asked rate: the search goes no further."""
FIRST_SEED = itertools.count(10**9, 10**7)
POINTS = ("p50", "p90", "p95", "p99", "max")


def load(rate: float, seconds: float, repeats: float = 0.0) -> list[Call]:
    """`rate` a second; videos that no run asked for before."""
    seed = next(FIRST_SEED)
    times = poisson(rate, seconds, seed)
    return loads.plan(times, loads.kinds(None), repeats=repeats, seed=seed, first_seed=seed)


@dataclass(frozen=True, slots=True)
class Run:
    """One open loop, and what it took. `stage_s`: of a job, on average. `batch`: of a denoiser call, on average."""

    measured: Measured
    spent: Spent
    stage_s: dict[str, float]
    batch: float


def observed(service: Serve, calls: list[Call]) -> Run:
    with Client(f"127.0.0.1:{service.grpc}") as client:
        before, cpu, batches = stages(service), spent(service), _batches(client)
        measured = play(service.url, calls)
        cpu = spent(service).since(cpu)
        time.sleep(1.0)  # it tells every half second
        after, seen = stages(service), _batches(client)
    jobs = max(1.0, after["jobs"] - before["jobs"])
    steps = {size: count - batches.get(size, 0) for size, count in seen.items()}
    mean = sum(size * count for size, count in steps.items()) / max(1, sum(steps.values()))
    return Run(measured, cpu, {name: (after[name] - before[name]) / jobs for name in STAGES}, mean)


def _batches(client: Client) -> dict[int, int]:
    return {int(size): int(calls) for size, calls in client.stats()["process"]["batches"].items()}


@dataclass(frozen=True, slots=True)
class Tried:
    """A rate a second, and the p99 that it had; infinite where the run was ended because too much was late."""

    rate: float
    p99: float
    repeats: float

    @property
    def kept(self) -> bool:
        return self.p99 < SLO_S


def search(service: Serve, low: float, high: float, options: argparse.Namespace, repeats: float) -> Iterator[Tried]:
    """Rates between `low` and `high`, halving the ratio each time."""
    for _ in range(options.tries):
        rate = math.sqrt(low * high)
        measured = held(service.url, load(rate, options.search_seconds, repeats), SLO_S)
        answered = measured is not None and measured.of("answered") == len(measured.taken)
        tried = Tried(rate, (measured.percentile(0.99) or math.inf) if measured and answered else math.inf, repeats)
        print(f"{60 * rate:,.0f} a minute, {repeats:.0%} repeats: p99 {1000 * tried.p99:.0f} ms", flush=True)
        yield tried
        low, high = (rate, high) if tried.kept else (low, rate)
        if not tried.kept:
            settle(service)


def settle(service: Serve) -> None:
    """Until what was given up is out of the way."""
    play(service.url, load(1.0, 3.0))
    time.sleep(REST_S)


def cached(service: Serve, rate: float, seconds: float) -> dict[str, Measured]:
    """One finished video asked for again and again, in the two ways that there are."""
    once = Call(0.0, "cached", {"prompt": "a small red ring moving left on a black background", "seed": 1})
    play(service.url, [once])
    video = service.ask("/v1/videos?limit=1")["data"][0]["id"]

    async def content(http: Http, call: Call) -> Answer:
        return judged(await http.ask(http.request("GET", f"/v1/videos/{video}/content")))

    def again() -> list[Call]:
        return [Call(at, once.kind, once.fields, is_repeat=True) for at in poisson(rate, seconds, 5)]

    time.sleep(REST_S)
    return {
        f"GET /v1/videos/{{id}}/content, {rate:g} a second": play(service.url, again(), content),
        f"the same request once more, POST /v1/videos/sync, {rate:g} a second": play(service.url, again()),
    }


def row(name: str, measured: Measured) -> list[str]:
    found = measured.summary(SLO_S)
    times = ["–" if found.latency[point] is None else f"{1000 * found.latency[point]:.0f}" for point in POINTS]  # ty: ignore[unsupported-operator]
    doubt = measured.doubt or "no"
    counts = [f"{found.answered:,} of {found.sent:,}", f"{60 * found.throughput:,.0f}"]
    return [name, *counts, *times, f"{(found.good or 0) / max(1, found.sent):.2%}", doubt]


HEAD = ["", "answered", "a minute", *(f"{point}, ms" for point in POINTS), "within 500 ms", "generator in doubt"]


def of_cpu(run: Run) -> list[str]:
    """Where a video's CPU went."""
    videos, cores = max(1, run.measured.of("answered")), available_cores() * run.measured.seconds
    taken = {
        "engine process: networks, MP4, scheduler": run.spent.engine,
        "API process, its event loop: HTTP, claiming": run.spent.loop,
        "API process, its other threads: the embedded store": run.spent.others,
        "load generator": run.measured.cpu_s,
    }
    rows = [[name, f"{1000 * s / videos:.2f}", f"{s / cores:.1%}"] for name, s in taken.items()]
    whole = sum(taken.values())
    rows.append(["all", f"{1000 * whole / videos:.2f}", f"{whole / cores:.1%}"])
    return table(["CPU", "ms a video", f"of {available_cores()} cores"], rows)


def of_time(run: Run) -> list[str]:
    """Where a video's time went, and whether the slow ones came together."""
    measured = run.measured
    mean = sum(measured.times()) / max(1, len(measured.times()))
    told = {**run.stage_s, "the rest: HTTP, acceptance, the others of its batch": mean - sum(run.stage_s.values())}
    slow = sorted(one.at for one in measured.taken if one.took > SLO_S or one.answer.outcome != "answered")
    spells = sum(later - earlier > 1.0 for earlier, later in itertools.pairwise(slow)) + bool(slow)
    return [
        *table(["stage", "ms of a video, mean"], [[name, f"{1000 * s:.1f}"] for name, s in told.items()]),
        "",
        f"Of a batch's call, a job has its share. The mean batch of a call was {run.batch:.2f}.",
        f"Slower than 500 ms or without a video: {len(slow):,}, in {spells} spells at least a second apart.",
    ]


def of_search(tried: list[Tried], repeats: float) -> str:
    kept = max((one for one in tried if one.kept and one.repeats == repeats), key=lambda one: one.rate, default=None)
    name = f"{repeats:.0%} repeats" if repeats else "no repeats"
    if kept is None:
        return f"- {name}: none of the tried rates held p99 < 500 ms"
    return f"- {name}: **{60 * kept.rate:,.0f} a minute** held it, p99 {1000 * kept.p99:.0f} ms"


def _order(one: Tried) -> tuple[float, float]:
    return one.repeats, one.rate


def _cells(one: Tried) -> list[str]:
    p99 = f"{1000 * one.p99:.0f}" if math.isfinite(one.p99) else "ended early"
    return [f"{60 * one.rate:,.0f}", f"{one.repeats:.0%}", p99]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=ROOT / "var", help="whose champion and engines are used")
    parser.add_argument("--rpm", type=float, default=1000.0, help="requests a minute")
    parser.add_argument("--seconds", type=float, default=300.0, help="of the run at --rpm")
    parser.add_argument("--search-seconds", type=float, default=25.0, help="of each run of the search")
    parser.add_argument("--tries", type=int, default=5, help="runs of the search, with repeats and without")
    parser.add_argument("--repeats", type=float, default=0.3, help="share, in the second search")
    parser.add_argument("--cached-rate", type=float, default=200.0, help="requests a second for a cached video")
    parser.add_argument("--cached-seconds", type=float, default=20.0)
    options = parser.parse_args()
    rate = options.rpm / 60
    with tempfile.TemporaryDirectory() as folder, served(options.home.absolute(), Path(folder)) as (service, version):
        gc.collect()
        gc.freeze()  # what was imported so far is not looked through while it sends
        play(service.url, load(rate / 2, WARM_S))
        run = observed(service, load(rate, options.seconds))
        print(f"{options.rpm:g} a minute: p99 {1000 * (run.measured.percentile(0.99) or math.inf):.0f} ms", flush=True)
        settle(service)
        is_kept = run.measured.budget_spent(SLO_S, 0.99) <= 1
        low, high = (rate, HIGHEST * rate) if is_kept else (rate / 5, rate)
        tried = list(search(service, low, high, options, 0.0))
        best = max((one.rate for one in tried if one.kept), default=low)
        tried += search(service, best, 2 * best, options, options.repeats)
        seen = cached(service, options.cached_rate, options.cached_seconds)
    page(options, version.label, run, tried, seen)


def page(options: argparse.Namespace, label: str, run: Run, tried: list[Tried], seen: dict[str, Measured]) -> None:
    series = [
        Series(
            f"{share:.0%} repeats" if share else "no repeats",
            sorted((60 * one.rate, 1000 * one.p99) for one in tried if one.repeats == share),
        )
        for share in (0.0, options.repeats)
    ]
    rates = line_chart("p99 by rate", series, "requests a minute", "ms")
    (RESULTS / "service_rate.svg").write_text(stacked(*charts(run.measured), rates))
    generator = run.measured
    lines = [
        f"{label}; {available_cores()} cores for service and load generator together. An open loop of",
        f"{options.seconds:g} s, each request another video.",
        *table(HEAD, [row(f"{options.rpm:g} a minute", run.measured)]),
        *of_cpu(run),
        "",
        f"The generator sent 99 of 100 requests at most {1000 * generator.late_p99:.1f} ms late.",
        *of_time(run),
        "",
        f"The highest rate that holds p99 < 500 ms, by {options.tries} runs of {options.search_seconds:g} s each.",
        "A run is ended, and counts as too fast, as soon as more than one in a hundred were late:",
        "",
        of_search(tried, 0.0),
        of_search(tried, options.repeats),
        *table(["a minute", "repeats", "p99, ms"], [_cells(one) for one in sorted(tried, key=_order)]),
        "",
        "A cached video:",
        *table(HEAD, [row(name, measured) for name, measured in seen.items()]),
        "",
        "![latency over time, by percentile, and p99 by rate](service_rate.svg)",
    ]
    write("service_rate", "A thousand videos a minute on two cores", __spec__.name, lines)


if __name__ == "__main__":
    main()
