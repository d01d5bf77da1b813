"""`videogen top`: the service at work, live in a terminal."""

import json
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videogen.errors import ServiceAway
from videogen.opening import require

if TYPE_CHECKING:
    from rich.console import RenderableType

    from videogen.client.sync import Client

WIDTH = 80
CLASSES = ("interactive", "standard", "batch")
TIMEOUT_S = 5.0


def top(
    address: Annotated[str, typer.Option(help="The service's gRPC address.")] = "127.0.0.1:50051",
    api_key: Annotated[
        str | None, typer.Option(envvar="VIDEOGEN_API_KEY", show_envvar=True, help="Of scope admin; none on loopback.")
    ] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Something in front of the service speaks TLS.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between looks.")] = 1.0,
    once: Annotated[bool, typer.Option("--once", help="Print one look and end.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One look as a JSON object.")] = False,
) -> None:
    """Watch the service: queue, batches, devices, rates and times of the last minute, swaps. Ctrl-C ends it.

    Example: `videogen top --once`
    """
    require("grpc", "client")
    from rich.console import Console

    from videogen.client.sync import Client

    with Client(address, api_key=api_key, tls=tls, timeout_s=TIMEOUT_S) as client:
        seen = _ask(client, address)
        if as_json:
            typer.echo(json.dumps(seen))
        elif once:
            Console(highlight=False, width=None if "COLUMNS" in os.environ else WIDTH).print(view(address, seen))
        else:
            _watch(client, address, seen, every)


def _ask(client: "Client", address: str) -> Mapping[str, Any]:
    from videogen.client.errors import ServiceError

    try:
        return client.stats()
    except ServiceError as error:
        hint = {
            "UNAVAILABLE": "; is it running? start it with: videogen serve",
            "UNAUTHENTICATED": "; give a key of scope admin with --api-key or VIDEOGEN_API_KEY",
            "PERMISSION_DENIED": "; make one with: videogen keys create --tenant NAME --scope admin",
        }.get(error.code, "")
        raise ServiceAway(f"the service at {address} does not tell its figures: {error}{hint}") from error


def _watch(client: "Client", address: str, seen: Mapping[str, Any], every: float) -> None:
    """Until Ctrl-C. A service that goes away is said to be so, and shown again when it is back."""
    from rich.live import Live
    from rich.text import Text

    with Live(view(address, seen), auto_refresh=False, screen=True) as live:
        while True:
            try:
                time.sleep(every)
                live.update(view(address, _ask(client, address)), refresh=True)
            except ServiceAway as error:
                live.update(Text(str(error)), refresh=True)
            except KeyboardInterrupt:
                return


def view(address: str, seen: Mapping[str, Any]) -> "RenderableType":
    """One look, of the form that `Overview.as_plain` gives in the service's telemetry, at most 80 columns wide."""
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(address, seen):
        table.add_row(name, escape(text))
    return table


def _rows(address: str, seen: Mapping[str, Any]) -> list[tuple[str, str]]:
    engine, minute, swaps = seen.get("engine", {}), seen.get("last_minute", {}), seen.get("swaps", {})
    accepted, ended, refused = (minute.get(name, {}) for name in ("accepted", "ended", "refused"))
    waiting = engine.get("waiting", {})
    state = "ready" if engine.get("ready") else "not ready"
    rows = [
        ("service", f"{address}, up {_time(seen.get('up_s', 0))}"),
        ("engine", f"{state}, {_count(engine.get('restarts', 0), 'restart')}"),
        ("devices", "  ".join(f"{_bar(share)} {share:4.0%} busy" for share in engine.get("busy", ())) or "none yet"),
        ("queue", ", ".join(f"{int(waiting.get(name, 0)):,} {name}" for name in CLASSES)),
        ("", f"{engine.get('work_s', 0):,.1f} s of work wait, {int(engine.get('running', 0)):,} being made"),
        ("last minute", f"{_sum(accepted)} accepted: {_counts(accepted)}"),
        ("", f"{_sum(ended)} ended: {_counts(ended)}"),
        ("", f"{_sum(refused)} refused: {_counts(refused)}"),
        ("cache", _cache(accepted)),
        ("batches", _batches(minute)),
    ]
    times = {name: seen.get("seconds", {}).get(name) for name in CLASSES}
    rows += [(name, _quantiles(found)) for name, found in times.items() if found]
    rows.append(("swaps", _swaps(swaps)))
    rows += [("reason", str(reason)) for reason in seen.get("reasons", ())]
    rows += [("warning", str(warning)) for warning in seen.get("warnings", ())]
    return rows


def _bar(share: float, width: int = 10) -> str:
    full = round(min(1.0, max(0.0, share)) * width)
    return "█" * full + "░" * (width - full)


def _sum(counts: Mapping[str, float]) -> str:
    return f"{int(sum(counts.values())):,}"


def _counts(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{int(count):,} {name.replace('_', ' ')}" for name, count in sorted(counts.items())) or "none"


def _cache(accepted: Mapping[str, float]) -> str:
    spared, all_of_them = accepted.get("hit", 0) + accepted.get("joined", 0), sum(accepted.values())
    return f"{spared / all_of_them:.0%} of what was accepted was not made again" if all_of_them else "nothing accepted"


def _batches(minute: Mapping[str, Any]) -> str:
    sizes = minute.get("batches", {})
    if not sizes:
        return "no steps"
    ordered = sorted(sizes.items(), key=lambda one: int(one[0]))
    shown = ", ".join(f"{int(count):,} of {size}" for size, count in ordered)
    return f"{shown}; a step takes {_seconds(minute.get('step_p50_s'))} (p50)"


def _quantiles(times: Mapping[str, float | None]) -> str:
    return f"p50 {_seconds(times.get('p50'))}, p95 {_seconds(times.get('p95'))} to a video"


def _swaps(swaps: Mapping[str, float]) -> str:
    done, failed = int(swaps.get("succeeded", 0)), int(swaps.get("failed", 0))
    if not done + failed:
        return "none"
    took, gap = _seconds(swaps.get("last_s")), _seconds(swaps.get("last_longest_gap_s"))
    return f"{done:,} done, {failed:,} failed; the last took {took}, at most {gap} of it without a step, idle or not"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.2f} s"


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _count(number: float, what: str) -> str:
    return f"{int(number):,} {what}{'' if number == 1 else 's'}"
