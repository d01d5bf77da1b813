import re
from pathlib import Path

import pytest

from tests.fixtures.browser import chromium_page
from tests.media.clips import moving_square
from videogen.media.charts import Series, line_chart
from videogen.media.mp4 import encode_mp4
from videogen.media.report import (
    Report,
    ReportBatch,
    ReportClip,
    ReportGate,
    ReportVersion,
    render_report,
    write_report,
)

PROMPT = "a small <red> square & friends"


def report() -> Report:
    clip = ReportClip(PROMPT, encode_mp4(moving_square(), fps=8), "seed 1", [("red", True), ("small", False)])
    gate = ReportGate("agreement", "inconclusive", 0.7, 0.6, 0.8, 0.75, 64, "the interval holds the limit")
    chart = line_chart("T(B)", [Series("cpu", [(1, 1.0), (2, 1.8)])], "batch", "seconds")
    return Report(
        "One version",
        facts={"champion": "tiny@1"},
        versions=[ReportVersion("tiny@1", "champion", "Passed.", [gate], [clip] * 3, charts=[chart])],
        batches=[ReportBatch("batch-1", "2 requests", [("denoise", 1.0)], [clip], [("a <b>", "unknown word")])],
        limits=["Small samples."],
    )


def test_the_page_needs_nothing_but_itself():
    page = render_report(report())
    targets = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.findall(r"url\(|@import|<link", page)


def test_words_are_shown_as_words():
    page = render_report(report())
    assert "<red>" not in page
    assert "a small &lt;red&gt; square &amp; friends" in page
    assert "<b>" not in page


def test_a_gate_says_its_outcome_its_numbers_and_why():
    page = render_report(report())
    row = re.search(r"<tr><td>agreement</td>.*?</tr>", page)
    assert row
    for words in ("? inconclusive", "0.7", "0.6 … 0.8", "0.75", "64", "the interval holds the limit"):
        assert words in row[0]


def test_an_older_page_is_replaced_whole(tmp_path: Path):
    path = tmp_path / "out" / "report.html"
    assert write_report(Report("old"), path) == path
    write_report(report(), path)
    assert "One version" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


@pytest.mark.browser
def test_a_real_browser_plays_the_videos(tmp_path: Path):
    path = write_report(report(), tmp_path / "report.html")
    complaints: list[str] = []
    with chromium_page(1200, 2400) as page:
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path.as_uri())
        page.wait_for_function(
            "[...document.querySelectorAll('video')].every(v => v.videoWidth === 64 && v.currentTime > 0.3)"
        )
        assert page.locator("video").count() == 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 1200
    assert complaints == []


_OVER = """[...document.querySelectorAll('.clip .badge')].filter(badge =>
    badge.getBoundingClientRect().right > badge.closest('.clip').getBoundingClientRect().right).map(b => b.textContent)
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 400])
def test_long_verdicts_stay_in_their_cards(tmp_path: Path, width: int):
    verdicts = [("small, seen as nothing it knows", False), ("red", True), ("striped, seen as nothing it knows", False)]
    clip = ReportClip(PROMPT, encode_mp4(moving_square(), fps=8), "seed 1", verdicts)
    version = ReportVersion("tiny@3", "refused", "It is worse.", clips=[clip] * 3)
    path = write_report(Report("One version", versions=[version]), tmp_path / "report.html")
    with chromium_page(width, 900) as page:
        page.goto(path.as_uri())
        assert page.locator(".chips .badge").count() == 9
        assert page.evaluate(_OVER) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
