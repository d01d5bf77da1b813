"""The report: one HTML file that holds everything it shows, videos included, and needs no server.

It says for every model version what its gates found and why it was promoted or refused, plays the evaluation
and the request videos beside their prompts, and shows where the time of each batch went.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Literal

from videogen.media.charts import number, stacked_bar
from videogen.media.report_style import CSS, SCRIPT
from videogen.media.webp import data_uri

SIGNS = {"pass": "✓ pass", "fail": "✗ fail", "inconclusive": "? inconclusive"}
STATUS_CLASS = {"champion": "pass", "promoted": "pass", "refused": "fail", "failed": "fail"}


@dataclass(frozen=True, slots=True)
class ReportClip:
    """A video beside its prompt. `chips` are words with whether the video shows them; None where nobody judged."""

    prompt: str
    mp4: bytes
    notes: str = ""
    chips: Sequence[tuple[str, bool | None]] = ()


@dataclass(frozen=True, slots=True)
class ReportGate:
    """What one gate found: an estimate with its interval, held against a limit, on `n` samples."""

    name: str
    outcome: Literal["pass", "fail", "inconclusive"]
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    n: int
    reason: str


@dataclass(frozen=True, slots=True)
class ReportVersion:
    """One model version. `status` is a word such as champion, promoted, refused, superseded; charts are SVG.

    `clips_made` is of how many videos `clips` are the first ones; 0 means that they are all there is.
    """

    label: str
    status: str
    summary: str
    gates: Sequence[ReportGate] = ()
    clips: Sequence[ReportClip] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    charts: Sequence[str] = ()
    clips_made: int = 0


@dataclass(frozen=True, slots=True)
class ReportBatch:
    """One batch of requests; `stages` are (name, seconds) in the order they ran."""

    id: str
    summary: str
    stages: Sequence[tuple[str, float]] = ()
    clips: Sequence[ReportClip] = ()
    failures: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page. `facts` stand at the top, `charts` (SVG) after the versions, `limits` at the end."""

    title: str
    subtitle: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    versions: Sequence[ReportVersion] = ()
    batches: Sequence[ReportBatch] = ()
    charts: Sequence[str] = ()
    limits: Sequence[str] = ()


def _badge(words: str, kind: str = "") -> str:
    return f'<span class="badge {kind}">{escape(words)}</span>'


def _facts(facts: Mapping[str, str]) -> str:
    pairs = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{pairs}</dl>' if pairs else ""


def _charts(charts: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(charts)}</div>' if charts else ""


def _chip(word: str, right: bool | None) -> str:
    if right is None:
        return _badge(word)
    return _badge(f"{'✓' if right else '✗'} {word}", "pass" if right else "fail")


def _clip(clip: ReportClip) -> str:
    chips = "".join(_chip(word, right) for word, right in clip.chips)
    return (
        f'<figure class="clip"><video src="{data_uri(clip.mp4, "video/mp4")}" muted loop playsinline '
        f'aria-label="{escape(clip.prompt, quote=True)}"></video><figcaption>'
        f'<div class="prompt">{escape(clip.prompt)}</div><div class="chips">{chips}</div>'
        f'<div class="notes">{escape(clip.notes)}</div></figcaption></figure>'
    )


def _clips(title: str, clips: Sequence[ReportClip]) -> str:
    return f'<h3>{title}</h3><div class="clips">{"".join(map(_clip, clips))}</div>' if clips else ""


def _shown(value: float | None) -> str:
    return "–" if value is None else number(value)


def _gate(gate: ReportGate) -> str:
    interval = "" if gate.low is None and gate.high is None else f"{_shown(gate.low)} … {_shown(gate.high)}"
    return (
        f"<tr><td>{escape(gate.name)}</td><td>{_badge(SIGNS[gate.outcome], gate.outcome)}</td>"
        f'<td class="number">{_shown(gate.value)}</td><td class="number">{interval}</td>'
        f'<td class="number">{_shown(gate.limit)}</td><td class="number">{gate.n}</td>'
        f"<td>{escape(gate.reason)}</td></tr>"
    )


def _gates(gates: Sequence[ReportGate]) -> str:
    if not gates:
        return ""
    names = "<th>gate</th><th>outcome</th>" + "".join(
        f'<th class="number">{name}</th>' for name in ("value", "interval", "limit", "n")
    )
    rows = "".join(map(_gate, gates))
    return f'<h3>Gates</h3><div class="scroll"><table><tr>{names}<th>why</th></tr>{rows}</table></div>'


def _version(version: ReportVersion) -> str:
    shown, made = len(version.clips), version.clips_made
    title = f"Evaluation videos: the first {shown} of {made}" if made > shown else "Evaluation videos"
    badge = _badge(version.status, STATUS_CLASS.get(version.status, ""))
    return (
        f'<section class="card" id="{escape(version.label, quote=True)}">'
        f'<div class="head"><h2>{escape(version.label)}</h2>{badge}</div>'
        f"<p>{escape(version.summary)}</p>{_facts(version.facts)}{_gates(version.gates)}"
        f"{_charts(version.charts)}{_clips(title, version.clips)}</section>"
    )


def _failures(failures: Sequence[tuple[str, str]]) -> str:
    rows = "".join(f"<tr><td>{escape(what)}</td><td>{escape(why)}</td></tr>" for what, why in failures)
    return f"<h3>Failed</h3><table><tr><th>request</th><th>why</th></tr>{rows}</table>" if failures else ""


def _batch(batch: ReportBatch) -> str:
    timing = [stacked_bar("Where the time went", batch.stages, "s")] if batch.stages else []
    return (
        f'<section class="card" id="{escape(batch.id, quote=True)}"><div class="head"><h2>{escape(batch.id)}</h2></div>'
        f"<p>{escape(batch.summary)}</p>{_charts(timing)}{_clips('Videos', batch.clips)}"
        f"{_failures(batch.failures)}</section>"
    )


def _links(report: Report) -> str:
    names = [version.label for version in report.versions] + [batch.id for batch in report.batches]
    return "<nav>" + "".join(f'<a href="#{escape(n, quote=True)}">{escape(n)}</a>' for n in names) + "</nav>"


def render_report(report: Report) -> str:
    """The page as HTML: no reference to anything outside it. Every string is shown as text, never as markup,
    except `charts`, which are SVG from `videogen.media.charts`."""
    parts = [f"<h1>{escape(report.title)}</h1>", f'<p class="soft">{escape(report.subtitle)}</p>']
    if report.facts:
        parts.append(f'<div class="card">{_facts(report.facts)}</div>')
    parts.append(_links(report))
    if report.versions:
        parts += ["<h2>Model versions</h2>", *map(_version, report.versions)]
    if report.charts:
        parts.append(f'<h2>Over versions</h2><div class="card">{_charts(report.charts)}</div>')
    if report.batches:
        parts += ["<h2>Requests, in batches</h2>", *map(_batch, report.batches)]
    if report.limits:
        items = "".join(f"<li>{escape(limit)}</li>" for limit in report.limits)
        parts.append(f"<footer><strong>How to read this</strong><ul>{items}</ul></footer>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.title)}</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(parts)}</main><script>{SCRIPT}</script></body></html>\n"
    )


def write_report(report: Report, path: Path) -> Path:
    """Writes the page to `path`, at once or not at all, and returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(render_report(report), encoding="utf-8")
    scratch.replace(path)
    return path
