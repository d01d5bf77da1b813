"""What the demo leaves for people: the videos, a contact sheet, and one page that holds everything."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videogen.artifacts import Artifacts
from videogen.commands.outputs import slug
from videogen.evaluation import KIND, Evaluation, read_evaluation
from videogen.judging import told_distances
from videogen.media.report import Report, ReportBatch, ReportClip, ReportGate, ReportVersion, write_report
from videogen.version_report import LIMITS
from videogen.world.grammar import caption, combinations, is_held_out

if TYPE_CHECKING:
    import dagster as dg

    from videogen.registry import ModelVersion
    from videogen.store.records import RequestRecord
    from videogen.store.store import Store

REQUESTS = 12
SHOWN_CLIPS = 8
REQUEST_LIMITS = (
    "Prompts of evaluations and requests name combinations that training never saw.",
    "The videos of requests are shown as they were made; nothing judged whether they show what was asked for.",
)


def write_requests(path: Path) -> Path:
    """The requests of the demo as JSON lines: the same prompts and seeds each time."""
    rng = random.Random("demo")
    chosen = rng.sample([attributes for attributes in combinations() if is_held_out(attributes)], REQUESTS)
    lines = [json.dumps({"prompt": caption(attributes, rng), "seed": seed}) for seed, attributes in enumerate(chosen)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


def save_videos(store: "Store", records: Sequence["RequestRecord"], folder: Path) -> list[Path]:
    """One MP4 per answered request, named by its place and its prompt."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, record in enumerate(records):
        paths.append(folder / f"{number:02d}-{slug(prompt_of(record))}.mp4")
        paths[-1].write_bytes(store.read_video(record.video or ""))
    return paths


def write_contact_sheet(videos: Sequence[Path], captions: Sequence[str], path: Path) -> Path:
    """All videos in one picture, a row of frames each."""
    from videogen.media.contact_sheet import contact_sheet
    from videogen.media.mp4 import decode_mp4

    path.write_bytes(contact_sheet([decode_mp4(video.read_bytes()) for video in videos], captions))
    return path


def version_section(
    artifacts: Artifacts, version: "ModelVersion", status: str, checks: Sequence["dg.AssetCheckEvaluation"]
) -> ReportVersion:
    """One version: what its gates found, and some of its evaluation videos."""
    found = evaluation_of(artifacts, version.digest or "")
    reasons = [check.description or check.check_name for check in checks if not check.passed]
    return ReportVersion(
        label=version.label,
        status=status,
        summary="; ".join([version.description, *reasons]),
        gates=[gate for check in checks for gate in _gates(check)],
        clips=list(_clips(*found)) if found else (),
        facts={"digest": version.digest or ""}
        | ({"engine": f"{found[1].target} {found[1].precision}"} if found else {})
        | dict(told_distances(artifacts, version.tags.get("judgement", ""))),
        clips_made=sum(answer.video is not None for answer in found[1].answers) if found else 0,
    )


def evaluation_of(artifacts: Artifacts, digest: str) -> tuple[Path, Evaluation] | None:
    """The latest evaluation of a version that lies among the artifacts."""
    folders = sorted((artifacts.root / KIND).glob("*/evaluation.json"), key=lambda path: path.stat().st_mtime)
    found = [(path.parent, read_evaluation(path.parent)) for path in folders]
    return next(((folder, one) for folder, one in reversed(found) if one.version_digest == digest), None)


def _gates(check: "dg.AssetCheckEvaluation") -> Iterator[ReportGate]:
    table: Any = check.metadata.get("gates")
    for record in table.records if table else ():
        row: dict[str, Any] = {name: None if value == "–" else value for name, value in record.data.items()}
        yield ReportGate(
            name=f"{check.check_name}: {row['gate']} ({row['target']})",
            outcome=row["outcome"],
            value=row["value"],
            low=row["low"],
            high=row["high"],
            limit=row["limit"],
            n=row["n"],
            reason=row["reason"],
        )


def _clips(folder: Path, evaluation: Evaluation) -> Iterator[ReportClip]:
    for answer in [answer for answer in evaluation.answers if answer.video][:SHOWN_CLIPS]:
        mp4 = (folder / str(answer.video)).read_bytes()
        yield ReportClip(answer.prompt, mp4, f"seed {answer.seed}", answer.verdicts())


def batch_sections(store: "Store", records: Sequence["RequestRecord"]) -> list[ReportBatch]:
    """The requests, by the batch that answered them."""
    batches: dict[str, list[RequestRecord]] = {}
    for record in records:
        batches.setdefault(record.batch or "answered from the cache", []).append(record)
    return [
        ReportBatch(
            id=name,
            summary=f"{len(members)} requests, answered by {members[0].label}",
            clips=[
                ReportClip(prompt_of(record), store.read_video(record.video or ""), _origin(store, record))
                for record in members
            ],
        )
        for name, members in batches.items()
    ]


def _origin(store: "Store", record: "RequestRecord") -> str:
    provenance = store.video(record.video or "", record.generation).provenance
    engine = " ".join(str(provenance[name]) for name in ("target", "precision") if name in provenance)
    return f"seed {record.accepted.request.seed if record.accepted else '?'}, {engine}"


def prompt_of(record: "RequestRecord") -> str:
    """The words of a request."""
    return record.accepted.request.prompt if record.accepted else ""


def write_page(path: Path, versions: Sequence[ReportVersion], batches: Sequence[ReportBatch]) -> Path:
    """The report of the whole demo."""
    title, subtitle = "From two model versions to videos", "What `make demo` did on this machine"
    limits = (*LIMITS, *REQUEST_LIMITS)
    return write_report(Report(title, subtitle, versions=versions, batches=batches, limits=limits), path)
