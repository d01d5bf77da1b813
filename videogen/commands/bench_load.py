"""`videogen bench load`: the service under a load that does not wait for it, and what its users would see."""

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from videogen.commands import load_options as options
from videogen.errors import InvalidRequest
from videogen.opening import require
from videogen.scheduling.arrivals import poisson

if TYPE_CHECKING:
    from videogen.loads.answers import Face
    from videogen.loads.calls import Call
    from videogen.loads.measured import Measured, Summary
    from videogen.scheduling.arrivals import Kind

bench = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown", help="Measure the inference service.")

WIDTH, REASONS, BINS = 110, 5, 120
DEFAULTS = {"http": "http://127.0.0.1:8000", "grpc": "127.0.0.1:50051"}


@bench.callback()
def measure() -> None:
    pass


@bench.command()
def load(
    url: options.Url = None,
    rate: options.Rate = 5.0,
    seconds: options.Seconds = 30.0,
    uniform: options.Uniform = False,
    trace: options.Trace = None,
    mix: options.Mix = None,
    duplicates: options.Duplicates = 0.0,
    cache: options.Cache = False,
    deadline: options.Deadline = None,
    slo: options.Slo = None,
    objective: options.Objective = 0.99,
    face: options.FaceName = "http",
    prompt: options.Prompt = None,
    connections: options.Connections = 1000,
    timeout: options.Timeout = 60.0,
    api_key: options.ApiKey = None,
    seed: options.Seed = 0,
    json_file: options.JsonFile = None,
    plot: options.Plot = None,
) -> None:
    """Ask the service for videos at a given rate, and tell what its users would see.

    Requests leave when they are due, however slow the answers are (an open loop), and each is timed from when it was
    due until its whole MP4 is here: a service that stands still is not asked less, and its pause shows. Every request
    is a video that nobody asked for before, unless `--duplicates` or `--cache` say otherwise.

    A tenant has 64 streams on a replica at once, and each request is one while it waits: for more, start the service
    with VIDEOGEN_TENANT_STREAMS=1000. Ctrl-C ends the sending and tells what there is. With `--slo`, the command ends
    with 1 if the error budget is overspent; without, if nothing was answered.

    Examples:

    `videogen bench load --rate 15 --seconds 60 --slo 0.5 --plot load.svg`: is 99 % answered within half a second?

    `videogen bench load --rate 20 --mix interactive:0.8,batch:0.2 --duplicates 0.3`: two classes, and repeats

    `videogen bench load --rate 2 --mix short:0.8:4,long:0.2:16 --deadline 3`: by steps; what would be late is refused

    `videogen bench load 10.0.0.7:50051 --face grpc --trace arrivals.jsonl --json out.json`: replayed, over gRPC
    """
    if plot and plot.suffix != ".svg":
        raise InvalidRequest("plot", str(plot), "a file that ends in .svg")
    _check_folders(json=json_file, plot=plot)
    from videogen.loads.calls import kinds, plan

    if trace and (uniform or mix):
        raise InvalidRequest("trace", str(trace), "without --uniform and --mix: its lines say when and of which class")
    times, own = _replayed(trace, deadline) if trace else (_drawn(rate, seconds, uniform, seed), [])
    first_seed = 0 if cache else secrets.randbits(48)
    calls = plan(
        times, kinds(mix, deadline), own=own, repeats=duplicates, seed=seed, first_seed=first_seed, prompt=prompt
    )
    measured = _measured(face, url or DEFAULTS[face], api_key, calls, connections, timeout)
    _tell(measured, slo, objective)
    if json_file:
        json_file.write_text(json.dumps(measured.as_plain(slo, objective)) + "\n")
    if plot:
        from videogen.media.charts import stacked

        plot.write_text(stacked(*charts(measured)))
    if measured.budget_spent(slo, objective) > 1 if slo else not measured.of("answered"):
        raise typer.Exit(1)


def _check_folders(**files: Path | None) -> None:
    """Raises InvalidRequest for a file that cannot be written once the load is over."""
    for option, file in files.items():
        if file and (file.is_dir() or not os.access(file if file.exists() else file.parent, os.W_OK)):
            raise InvalidRequest(option, str(file), "a file that may be written, in a folder that exists")


def _drawn(rate: float, seconds: float, uniform: bool, seed: int) -> list[float]:
    from videogen.loads import calls

    return list(calls.uniform(rate, seconds) if uniform else poisson(rate, seconds, seed=seed))


def _replayed(trace: Path, deadline: float | None) -> "tuple[list[float], list[Kind]]":
    from videogen.loads import calls

    arrivals = calls.replayed(trace, deadline)
    return [at for at, _ in arrivals], [kind for _, kind in arrivals]


def _measured(
    face: str, url: str, api_key: str | None, calls: "list[Call]", connections: int, timeout_s: float
) -> "Measured":
    with _progress(len(calls)) as tell:
        try:
            return asyncio.run(_play(face, url, api_key, calls, connections, timeout_s, tell))
        except asyncio.CancelledError as error:
            raise typer.Abort from error


async def _play(
    face: str, url: str, api_key: str | None, calls: "list[Call]", connections: int, timeout_s: float,
    tell: "Callable[[Measured], None]",
) -> "Measured":  # fmt: skip
    from videogen.loads.openloop import run

    service = _face(face, url, api_key)
    try:
        await service.check()
        return await run(
            calls, lambda call: service.generate(call.fields), most=connections, timeout_s=timeout_s, tell=tell,
            sending=_ended_by_ctrl_c,
        )  # fmt: skip
    finally:
        await service.close()


def _ended_by_ctrl_c(sending: "asyncio.Task[None]") -> None:
    """The first Ctrl-C ends the sending, a second one the waiting."""
    whole = asyncio.current_task()

    def end() -> None:
        if not sending.cancel() and whole is not None:
            whole.cancel()

    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, end)


def _face(face: str, url: str, api_key: str | None) -> "Face":
    if face == "grpc":
        require("grpc", "client")
        from videogen.loads.grpc import Grpc

        return Grpc(url, api_key)
    require("httptools", "serve")
    from videogen.loads.http import Http

    return Http(url, api_key)


@contextmanager
def _progress(count: int) -> "Generator[Callable[[Measured], None]]":
    """Gives what hears of the run; shown in a line on the error stream if a person watches it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True, highlight=False)
    columns = (BarColumn(), TextColumn("{task.description}"))
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal, auto_refresh=False
    ) as shown:
        task = shown.add_task("", total=count)

        def tell(measured: "Measured") -> None:
            parts = [f"{measured.of(outcome):,} {outcome}" for outcome in ("answered", "refused", "failed")]
            text = f"{', '.join(parts)}, {measured.waiting:,} waiting"
            shown.update(task, completed=len(measured.taken), description=text, refresh=True)

        yield tell


def _tell(measured: "Measured", slo: float | None, objective: float) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=None if "COLUMNS" in os.environ else WIDTH)
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    rows = [("all", measured.summary(slo))]
    if len(measured.kinds) > 1:
        rows = [(kind, measured.summary(slo, kind)) for kind in measured.kinds] + rows
    if any(one.is_repeat for one in measured.taken):
        rows.append(("of these repeats", measured.summary(slo, repeats=True)))
    heads = ["sent", "answered", "refused", "failed", *rows[0][1].latency, "answers/s"]
    for head in [*heads, *(["good/s", "good"] if slo else [])]:
        table.add_column(head, justify="right")
    for name, summary in rows:
        table.add_row(name, *_cells(summary))
    console.print(table)
    console.print("latencies in ms, from when a request was due to its last byte", style="dim")
    for why, times in measured.reasons[:REASONS]:
        console.print(f"{times:,} without a video: {why}", markup=False)
    if slo:
        spent = measured.budget_spent(slo, objective)
        told = f"{spent:.0%} spent" if spent <= 1 else f"overspent, {spent:,.1f} times what there is"
        console.print(f"error budget: {told}; {100 * objective:.4g} % shall be answered within {slo:g} s")
    p99, each = measured.percentile(0.99), 1000 * measured.cpu_s / max(1, len(measured.taken))
    of = f", beside a p99 of {1000 * p99:,.0f} ms" if p99 else ""
    late = f"99 of 100 left at most {1000 * measured.late_p99:.1f} ms late{of}"
    console.print(f"generator: {late}; {measured.cpu_share:.0%} of a core, {each:.2f} ms of CPU each")
    if measured.doubt:
        console.print(f"WARNING: the generator is in what was measured: {measured.doubt}", soft_wrap=True)


def _cells(summary: "Summary") -> list[str]:
    counts = [f"{count:,}" for count in (summary.sent, summary.answered, summary.refused, summary.failed)]
    times = ["–" if took is None else f"{1000 * took:,.0f}" for took in summary.latency.values()]
    cells = [*counts, *times, f"{summary.throughput:,.1f}"]
    if summary.good is None or summary.goodput is None:
        return cells
    return [*cells, f"{summary.goodput:,.1f}", f"{summary.good / summary.sent:.1%}" if summary.sent else "–"]


def charts(measured: "Measured") -> tuple[str, str]:
    """Latencies over time, and how they are spread, each as SVG."""
    from videogen.loads.measured import percentile_curve
    from videogen.media.charts import Series, line_chart
    from videogen.serving.telemetry.overview import quantile

    last = max((one.at for one in measured.taken), default=0.0)
    bins = measured.over_time(max(1.0, last / BINS))
    lines = {"p50": 0.5, "p90": 0.9, "max": 1.0}
    over_time = [
        Series(name, [(at, 1000 * (quantile(times, share) or 0.0)) for at, times in bins])
        for name, share in lines.items()
    ]
    spread = [Series(kind, percentile_curve(measured.times(kind))) for kind in measured.kinds]
    return (
        line_chart("Latency by when a request was due", over_time, "seconds", "ms"),
        line_chart("Latency by percentile", spread, "nines: 1 is p90, 2 is p99, 3 is p99.9", "ms"),
    )
