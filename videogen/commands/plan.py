"""`videogen plan`: how many devices a load needs and what a video costs, with the arithmetic, checked by simulation."""

import json
import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from videogen.commands.simulate import summary
from videogen.commands.simulated import MODEL, Device, Model, Profile, Steps, Synthetic, device, kinds, progress
from videogen.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from videogen.scheduling.arrivals import Kind
    from videogen.scheduling.simulation.fleet import Fleet
    from videogen.scheduling.simulation.outcome import Outcome

NAIVE_BATCH = 8
MOST_DEVICES = 100_000
SIMULATED = 10_000
"""Requests that a simulation plays, or a minute of them if that is less."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`naive_per_hour` and `naive_devices`: as if a batch of eight took no longer than one."""

    solo_s: float
    naive_per_hour: float
    naive_devices: int
    batch: int
    per_hour: float
    needed: int
    devices: int
    usd_per_video: float
    outcome: "Outcome"


def plan(
    rpm: Annotated[float, typer.Option(min=0.1, help="Requests a minute.")],
    p99: Annotated[float, typer.Option(min=0.001, help="Seconds within which 99 % shall be answered.")],
    price: Annotated[float, typer.Option(min=0, help="Dollars for an hour of one device.")],
    profile: Profile = None,
    synthetic: Synthetic = False,
    steps: Steps = None,
    model: Model = MODEL,
    seed: Annotated[int, typer.Option(help="Of the simulation.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say how many devices a load needs and what a video costs, from measured step times.

    The usual formula, devices · 8 · 3600 / T, takes a batch of eight for as fast as one video. This shows it beside the
    measured T(B), then adds devices until a simulation of the real scheduler keeps the p99.

    Examples:

    `videogen plan --rpm 1000 --p99 0.5 --price 0.05` — this machine's champion at 5 cents an hour

    `videogen plan --rpm 60000 --p99 2 --price 2.5 --synthetic --steps 20` — a device whose step takes 40 + 5·B ms
    """
    used = device(profile, synthetic, steps, model)
    with progress("simulating") as tell:
        made = make_plan(used, rpm, p99, price, seed, tell)
    if as_json:
        fields = {name: getattr(made, name) for name in Plan.__slots__ if name != "outcome"}
        typer.echo(json.dumps({"device": used.source, **fields, "simulation": summary(made.outcome)}))
    else:
        for line in arithmetic(made, used, rpm, p99, price):
            typer.echo(line)


def make_plan(
    used: Device, rpm: float, p99: float, price: float, seed: int = 0, tell: "Callable[[float], object] | None" = None
) -> Plan:
    """The fewest devices whose simulated p99 is low enough. Raises InvalidRequest if no number could be."""
    from videogen.scheduling.simulation.fleet import Fleet, rate

    kind = kinds("100", used.steps)[0]
    fleet = Fleet(used.costs, streams=used.streams)
    solo_s = 1 / rate(used.costs, kind, 1, 1)
    if p99 <= solo_s:
        raise InvalidRequest("p99", p99, f"more than the {solo_s:.3f} s that a video takes alone on this device")
    batches = range(1, used.costs.batch_max(kind.key) + 1)
    batch = max(batches, key=lambda size: rate(used.costs, kind, size, used.streams))
    per_hour, naive = 3600 * rate(used.costs, kind, batch, used.streams), NAIVE_BATCH * 3600 / solo_s
    needed = max(1, math.ceil(60 * rpm / per_hour))
    devices, outcome = _fewest(fleet, kind, rpm, p99, needed, seed, tell)
    return Plan(
        solo_s, naive, max(1, math.ceil(60 * rpm / naive)), batch, per_hour, needed, devices,
        devices * price / (60 * rpm), outcome,
    )  # fmt: skip


def _fewest(
    fleet: "Fleet", kind: "Kind", rpm: float, p99: float, least: int, seed: int,
    tell: "Callable[[float], object] | None",
) -> "tuple[int, Outcome]":  # fmt: skip
    """From `least` on, in steps that double, then between the last two by halves."""
    from videogen.scheduling.arrivals import poisson, requests
    from videogen.scheduling.simulation.simulate import simulate

    seconds = max(min(60.0, SIMULATED * 60 / rpm), 20 * p99)
    tried: dict[int, Outcome] = {}

    def is_enough(devices: int) -> bool:
        load = requests(poisson(rpm / 60, seconds, seed), [kind], seed=seed)
        outcome = tried[devices] = simulate(replace(fleet, devices=devices), load, seconds, tell)
        kept = sum(taken <= p99 for times in outcome.latencies.values() for taken in times)
        young = rpm / 60 * p99  # arrived too late to be missed yet
        return kept >= 0.99 * (outcome.arrived - min(outcome.still_there, young))

    below, devices, more = least - 1, least, 1
    while not is_enough(devices):
        below, devices, more = devices, devices + more, 2 * more
        if devices > MOST_DEVICES or more > max(64, 4 * least):
            raise InvalidRequest("p99", p99, f"what more devices can reach; {below:,} do not keep it")
    while devices - below > 1:
        middle = (below + devices) // 2
        below, devices = (below, middle) if is_enough(middle) else (middle, devices)
    return devices, tried[devices]


def arithmetic(made: Plan, used: Device, rpm: float, p99: float, price: float) -> list[str]:
    """The plan as lines to read from top to bottom."""
    from videogen.scheduling.simulation.fleet import rate

    kind = kinds("100", used.steps)[0]
    batch, streams, outcome = made.batch, used.streams, made.outcome
    step, rest = used.costs.step(kind.key, batch, streams), used.costs.rest(kind.key, batch, streams)
    ratio = made.naive_per_hour / made.per_hour
    eight = 3600 * rate(used.costs, kind, NAIVE_BATCH, streams)
    hourly, ideal = f"{60 * rpm:,.0f}", used.steps * step + rest
    served = f"{batch * streams} · 3600 s / {ideal:.4f} s = {made.per_hour:,.0f} videos"
    p50, p99_seen = outcome.percentile(0.5), outcome.percentile(0.99)
    return [
        f"device      {used.source}",
        f"load        {rpm:,g} a minute = {hourly} videos an hour, 99 % of them within {p99:g} s",
        f"alone       T(1) = {made.solo_s:.4f} s for a video of {used.steps} steps",
        "",
        f"the usual formula, devices · {NAIVE_BATCH} · 3600 s / T(1)",
        f"  an hour   1 · {NAIVE_BATCH} · 3600 s / {made.solo_s:.4f} s = {made.naive_per_hour:,.0f} videos",
        f"  devices   {hourly} / {made.naive_per_hour:,.0f} = {_ceiled(60 * rpm / made.naive_per_hour)}",
        "",
        f"by the measured T(B), at its best: batch {batch}, streams {streams}",
        f"  T({batch})      {used.steps} steps · {step:.4f} s + {rest:.4f} s = {ideal:.4f} s",
        f"  an hour   1 · {served} (at batch {NAIVE_BATCH}: {eight:,.0f})",
        f"  ratio     the usual formula promises {ratio:.2f} times that",
        f"  devices   {hourly} / {made.per_hour:,.0f} = {_ceiled(60 * rpm / made.per_hour)}, were they never idle",
        "",
        f"simulated   devices: {made.devices:,}, busy {outcome.utilisation:.0%}; {outcome.arrived:,} requests",
        f"  latency   p50 {p50:.3f} s, p99 {p99_seen:.3f} s",
        f"cost        {made.devices:,} · ${price:g} / {hourly} videos = {_dollars(made.usd_per_video)} a video",
    ]


def _ceiled(number: float) -> str:
    return f"{number:.2f}, so {max(1, math.ceil(number)):,}"


def _dollars(amount: float) -> str:
    """Three digits that count, or cents."""
    digits = 2 if amount >= 1 or amount <= 0 else 2 - math.floor(math.log10(amount))
    return f"${amount:.{digits}f}"
