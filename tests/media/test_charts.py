import itertools
import math
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videogen.media.charts import (
    Interval,
    Series,
    bar_chart,
    interval_chart,
    line_chart,
    number,
    stacked,
    stacked_bar,
    ticks,
)

SVG = "{http://www.w3.org/2000/svg}"


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_even_and_cover_the_values(low: float, span: float):
    marks = ticks(low, low + span)
    steps = [b - a for a, b in itertools.pairwise(marks)]
    assert marks[0] <= low + 1e-6 * max(abs(low), span)
    assert marks[-1] >= low + span - 1e-6 * max(abs(low), span)
    assert 2 <= len(marks) <= 13
    assert max(steps) == pytest.approx(min(steps), rel=1e-3)


def test_ticks_of_a_single_value_still_span_something():
    assert ticks(3.0, 3.0)[0] < 3.0 < ticks(3.0, 3.0)[-1]


def test_a_line_is_where_its_values_are():
    root = parsed(line_chart("T(B)", [Series("a", [(1, 1), (2, 2), (3, 3)])], "batch", "seconds"))
    path = root.find(f"{SVG}polyline")
    assert path is not None
    points = [tuple(map(float, point.split(","))) for point in path.attrib["points"].split()]
    (x1, y1), (x2, y2), (x3, y3) = points
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.02)
    assert y1 - y2 == pytest.approx(y2 - y3, abs=0.02)
    assert y1 > y3


def test_stacked_charts_stand_one_below_the_other_and_all_are_seen():
    one, two = (line_chart(name, [Series(name, [(0, 1), (1, 2)])], "x", "y") for name in ("one", "two"))
    root = parsed(stacked(one, two))
    inner = root.findall(f"{SVG}svg")
    tops = [float(chart.attrib["y"]) for chart in inner]
    heights = [float(chart.attrib["height"]) for chart in inner]
    assert tops == [0.0, heights[0]]
    assert float(root.attrib["height"]) == sum(heights)
    assert [chart.attrib["aria-label"] for chart in inner] == ["one", "two"]


def test_values_that_are_not_numbers_are_left_out():
    root = parsed(line_chart("x", [Series("a", [(1, 1), (2, math.nan), (3, math.inf)]), Series("b", [])], "x", "y"))
    assert len(root.findall(f"{SVG}circle")) == 1


def test_bars_are_as_long_as_their_values():
    root = parsed(bar_chart("speed", [("slow", 10), ("fast", 40)], "/min"))
    slow, fast = (float(bar.attrib["width"]) for bar in root.findall(f"{SVG}rect"))
    assert fast == pytest.approx(4 * slow, rel=0.01)
    assert "40 /min" in [text.text for text in root.iter(f"{SVG}text")]


def test_shares_of_a_stacked_bar_are_of_the_whole():
    words = [text.text for text in parsed(stacked_bar("time", [("denoise", 3), ("decode", 1)], "s")).iter(f"{SVG}text")]
    assert {"75.0%", "25.0%"} <= set(words)
    parsed(stacked_bar("nothing", [("denoise", 0.0)], "s"))


def test_an_interval_is_coloured_by_its_outcome_and_shows_its_limit():
    rows = [Interval("shape", 0.6, 0.5, 0.7, limit=0.8, outcome="fail"), Interval("all", math.nan, math.nan, math.nan)]
    root = parsed(interval_chart("agreement", rows))
    (dot,) = root.findall(f"{SVG}circle")
    assert dot.attrib["fill"] == "#d64545"
    (limit,) = [line for line in root.findall(f"{SVG}line") if "stroke-dasharray" in line.attrib]
    assert float(limit.attrib["x1"]) > float(dot.attrib["cx"])


def test_names_cannot_break_out_of_the_chart():
    nasty = "<script>'\"&"
    for svg in (line_chart(nasty, [Series(nasty, [(0, 1)])], nasty, nasty), bar_chart(nasty, [(nasty, 1)], nasty)):
        root = parsed(svg)
        assert root.attrib["aria-label"] == nasty
        assert not list(root.iter(f"{SVG}script"))


@pytest.mark.parametrize(("value", "shown"), [(0.123456, "0.1235"), (12, "12"), (123456.7, "123,457"), (math.nan, "–")])
def test_numbers_are_short(value: float, shown: str):
    assert number(value) == shown
