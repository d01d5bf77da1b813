"""`videogen simulate`: what a number of devices would do under a load, by the scheduler that really serves."""

import json
import math
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.commands.simulated import MODEL, Model, Profile, Steps, Synthetic, device, kinds, progress
from videogen.errors import InvalidRequest
from videogen.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from videogen.scheduling.simulation.outcome import Outcome

SHARES = (0.5, 0.9, 0.95, 0.99)


def simulate(
    profile: Profile = None,
    synthetic: Synthetic = False,
    devices: Annotated[int, typer.Option(min=1, max=10_000, help="All alike.")] = 1,
    rpm: Annotated[float, typer.Option(min=0.1, help="Requests a minute, on average.")] = 600.0,
    minutes: Annotated[float, typer.Option(min=0.01, max=10_000, help="Of the simulated clock.")] = 1.0,
    mix: Annotated[str, typer.Option(help="Percentages of short and of long requests (4 times the steps).")] = "100",
    repeats: Annotated[float, typer.Option(min=0, max=1, help="Share that asks what was asked before.")] = 0.0,
    bursts: Annotated[
        bool,
        typer.Option(
            "--bursts",
            help="Bursts of about 2 s, five times as fast as the rest, six a minute. How many and how long is chance: "
            "the mean strays from --rpm by a fifth or more in a minute, by a fifteenth in ten (--minutes).",
        ),
    ] = False,
    trace: Annotated[
        Path | None, typer.Option(help="Arrivals to replay: seconds, one a line; instead of --rpm and --bursts.")
    ] = None,
    steps: Steps = None,
    model: Model = MODEL,
    store_rate: Annotated[
        float, typer.Option(min=0.1, help="Videos a second that the store can hand out. [default: any number]")
    ] = math.inf,
    claim_ms: Annotated[float, typer.Option(min=0, help="A claim's time in the store.")] = 0.0,
    accept_ms: Annotated[
        float, typer.Option(min=0, help="Of the service's process before the engine, a request.")
    ] = 0.0,
    answer_ms: Annotated[float, typer.Option(min=0, help="Of the same process, each video that is made.")] = 0.0,
    boundary_ms: Annotated[float, typer.Option(min=0, help="A step boundary's time, beside the step.")] = 0.0,
    queue_s: Annotated[
        float, typer.Option(min=0, help="Refuse what would wait longer than so many seconds. [default: nothing]")
    ] = math.inf,
    seed: Annotated[int, typer.Option(help="The same seed gives the same outcome.")] = 0,
    no_hold: Annotated[bool, typer.Option("--no-hold", help="Never hold a batch open for more.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Write a chart of the latencies to this SVG file.")] = None,
) -> None:
    """Play a load on simulated devices: the real scheduler, its clock simulated, fed by measured step times.

    Examples:

    `videogen simulate --rpm 900`: the champion as it was measured here, under 900 requests a minute

    `videogen simulate --synthetic --devices 20 --rpm 9000 --mix 80/20 --bursts`: short and long requests in bursts

    `videogen simulate --synthetic --devices 100 --rpm 60000 --store-rate 250 --claim-ms 11`: the store is the limit

    `videogen simulate --synthetic --rpm 1000 --no-hold --json | jq .utilisation`: batches are never held open
    """
    from videogen.scheduling import arrivals
    from videogen.scheduling.simulation.fleet import Fleet, FrontCosts, StoreCosts
    from videogen.scheduling.simulation.simulate import simulate as played

    if plot and plot.suffix != ".svg":
        raise InvalidRequest("plot", str(plot), "a file that ends in .svg")
    used = device(profile, synthetic, steps, model)
    seconds = 60 * minutes
    make = arrivals.bursty if bursts else arrivals.poisson
    times = iter(_replayed(trace) if trace else make(rpm / 60, seconds, seed))
    first = next(times, math.inf)
    if first >= seconds:
        field, given = ("trace", str(trace)) if trace else ("rpm", rpm)
        raise InvalidRequest(field, given, f"what has an arrival in the time that is played, {seconds:g} s (--minutes)")
    fleet = Fleet(
        used.costs, devices, used.streams, hold=not no_hold, queue_s=queue_s,
        store=StoreCosts(store_rate, claim_ms / 1000), front=FrontCosts(accept_ms / 1000, answer_ms / 1000),
        boundary_s=boundary_ms / 1000,
    )  # fmt: skip
    with progress("simulating") as tell:
        load = arrivals.requests(chain([first], times), kinds(mix, used.steps), repeats=repeats, seed=seed)
        outcome = played(fleet, load, seconds, tell)
    if plot:
        plot.write_text(_chart(outcome))
    if as_json:
        typer.echo(json.dumps({"device": used.source, "streams": used.streams} | summary(outcome)))
    else:
        _tell(outcome, f"{used.source}; {counted(used.steps, 'step')}, {counted(used.streams, 'stream')}")


def summary(outcome: "Outcome") -> dict[str, Any]:
    """The outcome as plain values; null for what there was none of."""
    names = ("arrived", "completed", "refused", "still_there", "cached", "joined", "good", "late")
    floats = ("throughput", "goodput", "good_share", "utilisation", "store_utilisation", "mean_batch")
    return {
        "seconds": outcome.seconds,
        "devices": outcome.devices,
        **{name: getattr(outcome, name) for name in names},
        **{name: _finite(getattr(outcome, name)) for name in (*floats, "device_s_per_video", "held_s")},
        "latency_s": {
            kind: {f"p{100 * share:g}": outcome.percentile(share, kind) for share in SHARES}
            for kind in sorted(outcome.latencies)
        },
        "batches": dict(sorted(outcome.batches.items())),
        "limit": outcome.limit,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _replayed(trace: Path) -> "Iterable[float]":
    if not trace.is_file():
        raise InvalidRequest("trace", str(trace), "a file that exists: seconds of arrival, one a line")
    times = []
    for number, line in enumerate(trace.read_text().split(), 1):
        try:
            times.append(float(line))
        except ValueError as error:
            raise InvalidRequest(f"trace line {number}", line, "seconds of arrival, a number") from error
        if not 0 <= times[-1] < math.inf:
            raise InvalidRequest(f"trace line {number}", line, "seconds of arrival, 0 or more")
    return sorted(times)


LIMITS = {
    "load": "the load: neither devices nor store are short",
    "devices": "the devices: answers are late or refused; more devices would keep up",
    "store": "the store: it hands out no more, and devices wait for it",
}


def _tell(outcome: "Outcome", source: str) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = Table(box=None, show_header=False, pad_edge=False)
    share = f"{outcome.good_share:.1%} within {_good():g} times what they take alone"
    answers = f"{outcome.completed:,} of {outcome.arrived:,}: {outcome.throughput * 60:,.0f} a minute"
    for name, value in (
        ("device", source),
        ("answered", answers),
        ("good", f"{outcome.goodput * 60:,.0f} a minute; {share}"),
        ("refused, waiting", f"{outcome.refused:,}, {outcome.still_there:,}"),
        ("from cache, joined", f"{outcome.cached:,}, {outcome.joined:,}"),
        ("devices busy", f"{outcome.utilisation:.1%} of {outcome.devices:,}; store {outcome.store_utilisation:.1%}"),
        ("per video", _per_video(outcome)),
        ("limit", LIMITS[outcome.limit]),
    ):
        facts.add_row(name, value)
    latencies = Table("latency, ms", box=None, pad_edge=False)
    for share_ in SHARES:
        latencies.add_column(f"p{100 * share_:g}", justify="right")
    for kind in sorted(outcome.latencies):
        latencies.add_row(kind, *(f"{1000 * outcome.percentile(one, kind):,.0f}" for one in SHARES))
    batches = Table("batch", box=None, pad_edge=False)
    batches.add_column("calls", justify="right")
    batches.add_column("")
    most = max(outcome.batches.values(), default=1)
    for size, count in sorted(outcome.batches.items()):
        batches.add_row(str(size), f"{count:,}", "█" * math.ceil(30 * count / most))
    console = Console(highlight=False)
    for table in (facts, latencies, batches):
        console.print(table, end="\n\n" if table is not batches else "")


def _per_video(outcome: "Outcome") -> str:
    if not math.isfinite(outcome.device_s_per_video):
        return "none was made in the time that was played"
    return f"{1000 * outcome.device_s_per_video:,.1f} ms of a stream; mean batch {outcome.mean_batch:.2f}"


def _good() -> float:
    from videogen.scheduling.simulation.outcome import GOOD

    return GOOD


def _chart(outcome: "Outcome") -> str:
    from videogen.media.charts import Series, line_chart

    series = [
        Series(kind, [(percent, 1000 * outcome.percentile(percent / 100, kind)) for percent in range(5, 100, 5)])
        for kind in sorted(outcome.latencies)
    ]
    return line_chart("Latency", series, "percent of the answers", "ms at most")
