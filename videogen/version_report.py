"""The page about one version: its gates, how it compares, its videos beside their prompts."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from videogen.evaluation import Evaluation, videos
from videogen.evidence import Evidence
from videogen.media.charts import Interval, bar_chart, interval_chart
from videogen.media.contact_sheet import contact_sheet
from videogen.media.report import Report, ReportClip, ReportGate, ReportVersion, write_report
from videogen.quality.gates import GateReport
from videogen.quality.reading import HOW_TO_READ

REPORT, SHEET = "report.html", "contact_sheet.png"
CLIPS_ON_PAGE, CLIPS_ON_SHEET = 48, 24
LIMITS = (
    "Evaluation videos are judged on pixels alone, by a program that shares no code with what drew the training clips.",
    "A gate passes when its whole interval lies on the good side of the limit; too little evidence is not a pass.",
    HOW_TO_READ,
    "kvd_regression is KVD less the champion's, as a share of what spoilt clips add: 0 is no difference.",
)


def write_version_report(
    folder: Path, evidence: Evidence, gates: GateReport, facts: Mapping[str, str], beside: Evaluation | None
) -> None:
    """Writes the page, and a contact sheet if there is a clip to show, into `folder`."""
    found = evidence.evaluation
    version = ReportVersion(
        label=found.label,
        status={"pass": "passed", "fail": "refused"}.get(gates.outcome, "inconclusive"),
        summary=gates.reason,
        gates=[ReportGate(g.name, g.outcome, g.value, g.low, g.high, g.limit, g.n, g.reason) for g in gates.gates],
        clips=list(_clips(evidence)),
        facts=facts,
        charts=agreement_charts(found, beside),
        clips_made=sum(answer.video is not None for answer in found.answers),
    )
    title = f"{found.label}: {len(found.answers)} held-out prompts"
    write_report(
        Report(title, "Same prompts and seeds for every version", versions=[version], limits=LIMITS), folder / REPORT
    )
    shown = [answer for answer in found.answers if answer.video][:CLIPS_ON_SHEET]
    if shown:
        captions = [f"{answer.prompt}\nseed {answer.seed}" for answer in shown]
        (folder / SHEET).write_bytes(contact_sheet(videos(evidence.folder, shown), captions))


def agreement_charts(found: Evaluation, beside: Evaluation | None) -> Sequence[str]:
    """SVG: the share of clips that show each attribute, with intervals; all five at once beside the champion's."""
    agreement = found.agreement()
    rows = [Interval(name, share.value, share.low, share.high) for name, share in agreement.shares().items()]
    charts = [interval_chart("Share of clips that show what the prompt names", rows)]
    if beside is not None:
        bars = [(one.label, one.agreement().joint.value) for one in (beside, found)]
        charts.append(bar_chart("All five attributes at once", bars))
    return charts


def _clips(evidence: Evidence) -> Iterator[ReportClip]:
    for answer in [answer for answer in evidence.evaluation.answers if answer.video][:CLIPS_ON_PAGE]:
        mp4 = (evidence.folder / str(answer.video)).read_bytes()
        yield ReportClip(answer.prompt, mp4, f"seed {answer.seed}", answer.verdicts())
