"""Charts as SVG text, written by hand: lines, bars and intervals.

The colours are mid-tones that read on white and on near-black alike, because the same chart is shown as a
picture in Dagster's light and dark themes, where it can't know which one is on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 20, 44, 52
TEXT, GRID = "#717780", "#7d838d"
PALETTE = ("#3b7fd9", "#d9730d", "#2a9d6f", "#c2417c", "#8b6cef", "#9a7b2f")
OUTCOME = {"pass": "#2a9d6f", "fail": "#d64545", "inconclusive": "#c98a15"}
FONT = "font-family='system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif'"


@dataclass(frozen=True, slots=True)
class Series:
    """One line: points (x, y) in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Interval:
    """One row of an interval chart: an estimate, its interval, and the limit that it is held against."""

    name: str
    value: float
    low: float
    high: float
    limit: float | None = None
    outcome: str | None = None


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from at or below `low` to at or above `high`, about `count` of them."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(magnitude * nice for nice in (1, 2, 2.5, 5, 10) if magnitude * nice >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """A number for people: four significant digits, no trailing zeros, thousands apart."""
    if not math.isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)


def _text(x: float, y: float, words: str, anchor: str = "middle", size: int = 12, extra: str = "") -> str:
    return (
        f"<text x='{x}' y='{y}' text-anchor='{anchor}' font-size='{size}' fill='{TEXT}' {extra}>{escape(words)}</text>"
    )


def _svg(title: str, body: list[str], height: int = HEIGHT) -> str:
    heading = _text(LEFT - 48, 22, title, "start", 14, "font-weight='600'")
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' height='{height}' "
        f"role='img' aria-label='{escape(title, quote=True)}' {FONT}>{heading}{''.join(body)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, extra: str) -> str:
    return f"<line x1='{x1}' y1='{y1}' x2='{x2}' y2='{y2}' {extra}/>"


def _horizontal_grid(axis: _Axis, marks: list[float], right: float) -> list[str]:
    parts = []
    for mark in marks:
        y = axis.at(mark)
        parts.append(_line(LEFT, y, right, y, f"stroke='{GRID}' stroke-opacity='{0.55 if mark == 0 else 0.22}'"))
        parts.append(_text(LEFT - 8, y + 4, number(mark), "end", 11))
    return parts


def _axis_names(x_label: str, y_label: str) -> list[str]:
    return [
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, x_label),
        _text(WIDTH - RIGHT, TOP - 8, y_label, "end", 11),
    ]


def _legend(series: Sequence[Series], top: float) -> list[str]:
    parts, x = [], float(LEFT)
    for index, one in enumerate(series):
        colour = PALETTE[index % len(PALETTE)]
        parts.append(f"<rect x='{x}' y='{top - 8}' width='10' height='10' rx='2' fill='{colour}'/>")
        parts.append(_text(x + 15, top + 1, one.name, "start", 11))
        x += 30 + 6.4 * len(one.name)
    return parts


def line_chart(title: str, series: Sequence[Series], x_label: str, y_label: str) -> str:
    """SVG of one or more lines; the y axis starts at 0 unless a value lies below. Non-finite points are left out."""
    kept = [Series(one.name, [p for p in one.points if all(map(math.isfinite, p))]) for one in series]
    points = [point for one in kept for point in one.points] or [(0.0, 0.0)]
    xs, ys = [x for x, _ in points], [y for _, y in points]
    y_marks = ticks(min(0.0, *ys), max(ys))
    x_axis = _Axis(min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1, LEFT + 14, WIDTH - RIGHT - 14)
    y_axis = _Axis(y_marks[0], y_marks[-1], HEIGHT - BOTTOM, TOP + 12)
    body = _horizontal_grid(y_axis, y_marks, WIDTH - RIGHT) + _axis_names(x_label, y_label)
    distinct = sorted(set(xs))
    shown = distinct if len(distinct) <= 8 else [m for m in ticks(min(xs), max(xs)) if min(xs) <= m <= max(xs)]
    body += [_text(x_axis.at(x), HEIGHT - BOTTOM + 18, number(x), size=11) for x in shown]
    for index, one in enumerate(kept):
        colour = PALETTE[index % len(PALETTE)]
        path = " ".join(f"{x_axis.at(x)},{y_axis.at(y)}" for x, y in one.points)
        body.append(
            f"<polyline points='{path}' fill='none' stroke='{colour}' stroke-width='2.2' stroke-linejoin='round'/>"
        )
        for x, y in one.points if len(one.points) <= 40 else ():
            body.append(
                f"<circle cx='{x_axis.at(x)}' cy='{y_axis.at(y)}' r='3.4' fill='{colour}'>"
                f"<title>{escape(one.name)}: {number(x)} → {number(y)}</title></circle>"
            )
    return _svg(title, body + (_legend(kept, TOP) if len(kept) > 1 else []))


def stacked(*charts: str) -> str:
    """SVG of line charts, one below the other."""
    placed = [chart.replace("<svg ", f"<svg y='{HEIGHT * row}' ", 1) for row, chart in enumerate(charts)]
    size = f"viewBox='0 0 {WIDTH} {HEIGHT * len(charts)}' width='{WIDTH}' height='{HEIGHT * len(charts)}'"
    return f"<svg xmlns='http://www.w3.org/2000/svg' {size}>{''.join(placed)}</svg>"


def _names_width(names: Sequence[str]) -> float:
    return min(max(map(len, names), default=0) * 7 + 32, 260)


def bar_chart(title: str, bars: Sequence[tuple[str, float]], unit: str = "") -> str:
    """SVG of horizontal bars from 0, each with its name and its value."""
    finite = [value for _, value in bars if math.isfinite(value)] or [0.0]
    height = TOP + 34 * len(bars) + 14
    name_width = _names_width([name for name, _ in bars])
    axis = _Axis(min(0.0, *finite), max(*finite, 1e-12), name_width, WIDTH - 96)
    body = []
    for index, (name, value) in enumerate(bars):
        y = TOP + 34 * index
        end = axis.at(value) if math.isfinite(value) else axis.at(0)
        x, width = min(end, axis.at(0)), abs(end - axis.at(0))
        body.append(_text(name_width - 8, y + 16, name, "end"))
        body.append(f"<rect x='{x}' y='{y}' width='{width:.2f}' height='22' rx='3' fill='{PALETTE[0]}'/>")
        body.append(_text(x + width + 8, y + 16, f"{number(value)}{' ' + unit if unit else ''}", "start"))
    return _svg(title, body, height)


def stacked_bar(title: str, parts: Sequence[tuple[str, float]], unit: str) -> str:
    """SVG of one bar divided into `parts`, with the value and the share of each below it."""
    total = sum(value for _, value in parts)
    height = TOP + 44 + 22 * len(parts) + 10
    axis = _Axis(0, total or 1.0, LEFT - 48, WIDTH - RIGHT)
    body, start = [], 0.0
    for index, (name, value) in enumerate(parts):
        colour, x = PALETTE[index % len(PALETTE)], axis.at(start)
        start += value
        body.append(f"<rect x='{x}' y='{TOP}' width='{axis.at(start) - x:.2f}' height='26' fill='{colour}'/>")
        y = TOP + 52 + 22 * index
        body.append(f"<rect x='{LEFT - 48}' y='{y - 10}' width='11' height='11' rx='2' fill='{colour}'/>")
        share = f"{value / total:.1%}" if total else "–"
        body.append(_text(LEFT - 30, y, name, "start"))
        body.append(_text(WIDTH - RIGHT - 70, y, f"{number(value)} {unit}", "end"))
        body.append(_text(WIDTH - RIGHT, y, share, "end"))
    return _svg(title, body, height)


def _interval_row(row: Interval, axis: _Axis, y: float) -> list[str]:
    """The name ends 16 pixels left of the axis."""
    colour = OUTCOME.get(row.outcome or "", PALETTE[0])
    parts = [_text(axis.start - 16, y + 4, row.name, "end")]
    if all(map(math.isfinite, (row.low, row.high))):
        low, high = axis.at(row.low), axis.at(row.high)
        parts.append(_line(low, y, high, y, f"stroke='{colour}' stroke-width='3' stroke-linecap='round'"))
    if math.isfinite(row.value):
        parts.append(f"<circle cx='{axis.at(row.value)}' cy='{y}' r='5' fill='{colour}'/>")
    if row.limit is not None:
        x = axis.at(row.limit)
        parts.append(_line(x, y - 11, x, y + 11, f"stroke='{TEXT}' stroke-width='2' stroke-dasharray='3 2'"))
    return parts


def interval_chart(title: str, rows: Sequence[Interval], x_label: str = "") -> str:
    """SVG with a dot and an interval per row, coloured by outcome; a dashed mark stands at the row's limit."""
    values = [v for row in rows for v in (row.value, row.low, row.high, row.limit) if v is not None]
    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    marks = ticks(min(finite), max(finite))
    height = TOP + 32 * len(rows) + 46
    axis = _Axis(marks[0], marks[-1], _names_width([row.name for row in rows]) + 8, WIDTH - RIGHT - 10)
    body = []
    for mark in marks:
        x = axis.at(mark)
        body.append(_line(x, TOP - 8, x, height - 42, f"stroke='{GRID}' stroke-opacity='0.22'"))
        body.append(_text(x, height - 26, number(mark), size=11))
    for index, row in enumerate(rows):
        body += _interval_row(row, axis, TOP + 10 + 32 * index)
    return _svg(title, [*body, _text((axis.start + axis.end) / 2, height - 8, x_label)], height)
