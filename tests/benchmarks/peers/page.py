"""The page of results and its chart."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.peers import cells
from tests.benchmarks.peers.systems import Settings
from tests.benchmarks.peers.tuning import CONNECTIONS, Tried
from tests.benchmarks.shared import RESULTS, table
from videogen.media.charts import Series, line_chart

OURS = "videogen"


@dataclass
class Part:
    """What was measured on one device: by load and system, a value a round."""

    name: str
    ideals: Mapping[str, float]
    limits: Mapping[int, float]
    rate: float = 0.0
    mix_rate: float = 0.0
    closed: dict[tuple[str, str], list[cells.Closed]] = field(default_factory=dict)
    opened: dict[tuple[str, str], list[cells.Open]] = field(default_factory=dict)
    settings: dict[tuple[str, str], Settings] = field(default_factory=dict)
    tried: dict[str, list[Tried]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(system for _, system in (*self.closed, *self.opened)))

    def rates(self, load: str, system: str) -> float:
        return _median(one.rate for one in self.closed.get((load, system), []))

    def value(self, load: str, system: str, name: str) -> float:
        return _median(getattr(one, name) for one in self.opened.get((load, system), []))

    def best(self, values: Mapping[str, float], least: bool = False) -> tuple[str, float]:
        """The best peer and its value."""
        peers = {name: value for name, value in values.items() if not name.startswith(OURS) and not math.isnan(value)}
        if not peers:
            return "none", math.nan
        name = (min if least else max)(peers, key=lambda one: peers[one])
        return name, peers[name]


def _median(values: "Sequence[float] | object") -> float:
    found = list(values)  # ty: ignore[invalid-argument-type]
    return statistics.median(found) if found else math.nan


def lines(part: Part) -> list[str]:
    found = [f"## {part.name}"]
    found += [f"- {system} is missing: {why}" for system, why in part.errors.items()]
    for section in (_throughput, _goodput, _mix, _cost, _settings):
        found += section(part)
    return [*found, ""]


def _throughput(part: Part) -> list[str]:
    if not part.closed:
        return []
    rows, verdicts = [], []
    for count in CONNECTIONS:
        load = f"closed {count}"
        rates = {system: part.rates(load, system) for system in part.systems if (load, system) in part.closed}
        ideal = part.ideals.get(load, math.nan)
        rows.append([str(count), *(_rate(rates.get(one, math.nan), ideal) for one in _columns(part)), _number(ideal)])
        peer, most = part.best(rates)
        ours = rates.get(OURS, math.nan)
        of_ideal = "" if math.isnan(ideal) else f", {ours / ideal:.3f} of the ideal"
        verdicts.append(f"- {count} connections: {ours / most:.3f} of the best peer ({peer}){of_ideal}")
    head = ["connections", *_columns(part), "ideal"]
    title = f"**Closed loop**, {cells.SHORT} steps a video: videos a second, in brackets of the ideal that T(B) allows."
    return ["", title, *table(head, rows), "", *verdicts]


def _columns(part: Part) -> list[str]:
    return [one for one in part.systems if one != f"{OURS}, deadline"]


def _rate(rate: float, ideal: float) -> str:
    if math.isnan(ideal) or math.isnan(rate):
        return _number(rate)
    return f"{rate:.1f} ({rate / ideal:.3f})"


def _number(value: float) -> str:
    return "–" if math.isnan(value) else "no answer" if math.isinf(value) else f"{value:.1f}"


def _seconds(value: float) -> str:
    return "–" if math.isnan(value) else "no answer" if math.isinf(value) else f"{value:.2f}"


def _goodput(part: Part) -> list[str]:
    systems = [system for load, system in part.opened if load == "goodput"]
    if not systems:
        return []
    good = {system: part.value("goodput", system, "good") for system in systems}
    waits = {one: [_seconds(part.value("goodput", one, f"short_{name}")) for name in ("p50", "p95")] for one in systems}
    rows = [[one, f"{good[one]:.1f}", f"{good[one] / part.rate:.0%}", *waits[one]] for one in systems]
    peer, most = part.best(good)
    title = (
        f"**Goodput** in an open loop at {part.rate:.1f} requests a second, 1.2 × capacity, {cells.SHORT} steps: "
        f"answers within {part.limits[cells.SHORT]:.2f} s, {cells.SLO:g} × what one takes alone."
    )
    ours = [system for system in systems if system.startswith(OURS)]
    verdicts = [f"- {system}: {_ratio(good[system], most)} of the best peer ({peer})" for system in ours]
    return ["", title, *table(["system", "good a second", "of all", "p50, s", "p95, s"], rows), "", *verdicts]


def _ratio(ours: float, theirs: float) -> str:
    return f"{ours / theirs:.2f}" if theirs else f"{ours:.1f} against 0: no ratio"


def _mix(part: Part) -> list[str]:
    systems = [system for load, system in part.opened if load == "mix"]
    if not systems:
        return []
    short = {system: part.value("mix", system, "short_p95") for system in systems}
    names = ("short_p50", "short_p95", "long_p95", "good")
    rows = [[system, *(_seconds(part.value("mix", system, name)) for name in names)] for system in systems]
    peer, least = part.best(short, least=True)
    title = (
        f"**Short and long**, 80 % of {cells.SHORT} steps and 20 % of {cells.LONG}, open loop of {part.mix_rate:.1f} a "
        "second, 0.7 of capacity. Seconds; good: answers a second within 3 × what each takes alone."
    )
    verdict = f"- p95 of the short: {short.get(OURS, math.nan) / least:.2f} of the best peer's ({peer})"
    return ["", title, *table(["system", "short p50", "short p95", "long p95", "good"], rows), "", verdict]


def _cost(part: Part) -> list[str]:
    if not part.closed:
        return []
    rows = [
        [f"{count}", *(_cpu(part, f"closed {count}", system) for system in _columns(part))] for count in CONNECTIONS
    ]
    return ["", "CPU of all of a system's processes, ms a video.", *table(["connections", *_columns(part)], rows)]


def _cpu(part: Part, load: str, system: str) -> str:
    return _number(_median(one.cpu_ms for one in part.closed.get((load, system), [])))


def _settings(part: Part) -> list[str]:
    if not part.settings:
        return []
    rows = sorted((system, load, str(settings)) for (load, system), settings in part.settings.items())
    found = ["", "Settings that were found best.", *table(["peer", "load", "settings"], rows)]
    tried = [(peer, one.load, one.settings, f"{abs(one.value):.2f}") for peer in part.tried for one in part.tried[peer]]
    found += [
        "",
        "<details><summary>All that were tried</summary>",
        *table(["peer", "load", "settings", "found"], tried),
    ]
    return [*found, "", "Closed and goodput: a second; mix: p95 of the short, s.", "", "</details>"]


def chart(part: Part, name: str) -> None:
    """Throughput over connections."""
    series = [
        Series(system, [(count, part.rates(f"closed {count}", system)) for count in CONNECTIONS])
        for system in _columns(part)
        if any(key[1] == system for key in part.closed)
    ]
    if part.ideals:
        series.append(Series("ideal", [(count, part.ideals[f"closed {count}"]) for count in CONNECTIONS]))
    text = line_chart(f"Closed loop, {part.name.lower()}", series, "connections", "videos a second")
    (RESULTS / f"{name}.svg").write_text(text)
