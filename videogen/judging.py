"""The judgement on a model version: the gates of every target, the distances, a page about it. Made once and kept."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videogen.artifacts import Artifacts
from videogen.errors import MetricUnavailable
from videogen.evidence import (
    FEATURE_CLIPS,
    Evidence,
    Features,
    Judgement,
    floor_gates,
    judgements_from_json,
    judgements_to_json,
    made,
    regression_gates,
)
from videogen.quality.gates import GateSettings
from videogen.quality.reading import in_words
from videogen.version_report import REPORT, SHEET, write_version_report
from videogen.warming import Timings

KIND = "judgements"
GATES, DISTANCES = "gates.json", "distances.json"


@dataclass(frozen=True, slots=True)
class Case:
    """What one target of a version is judged on: its answers, and its timings beside the champion's."""

    target: str
    evidence: Evidence
    timings: Timings


@dataclass(frozen=True, slots=True)
class Judged:
    """What was found, and where it is kept: the gates by target; of the first target, the distances and the page.

    `metrics` are numbers under names that a tracker allows, none where I3D features could not be had: `unavailable`
    then says why.
    """

    folder: Path
    judgements: Mapping[str, Judgement]
    metrics: Mapping[str, float]
    unavailable: str | None
    is_new: bool

    @property
    def files(self) -> dict[str, Path]:
        """Name -> path of everything that is worth keeping beside the numbers."""
        return {name: self.folder / name for name in (GATES, DISTANCES, REPORT, SHEET) if (self.folder / name).exists()}


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges by `settings`, with distances on `features`."""

    artifacts: Artifacts
    settings: GateSettings
    features: Features

    def ensure(self, cases: Sequence[Case], champion: Evidence | None, facts: Mapping[str, str]) -> Judged:
        """The judgement on these cases beside this champion, made now if it is not there.

        What could not be measured for want of I3D is measured as soon as I3D can be had. Raises QualityError,
        ArtifactCorrupt.
        """
        unavailable = self._unavailable(cases)
        identity = [
            [(case.target, case.evidence.folder.name, case.timings.to_json()) for case in cases],
            champion and champion.folder.name,
            self.settings.model_dump_json(),
            sorted(facts.items()),
            unavailable is None,
        ]
        key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

        def fill(scratch: Path) -> None:
            (scratch / DISTANCES).write_text(json.dumps(self._distances(cases, unavailable), indent=1) + "\n")
            self._fill(scratch, cases, champion, facts)

        folder, is_new = self.artifacts.build(KIND, key, fill)
        judgements = judgements_from_json((folder / GATES).read_text())
        distances: dict[str, Any] = json.loads((folder / DISTANCES).read_text())
        return Judged(folder, judgements, distances["metrics"], distances.get("unavailable"), is_new)

    def _unavailable(self, cases: Sequence[Case]) -> str | None:
        """Why there can be no distances, None if there can."""
        for case in cases[:1]:
            if len(made(case.evidence)) < FEATURE_CLIPS:
                return f"{len(made(case.evidence))} clips; distances are taken of {FEATURE_CLIPS}"
            try:
                self.features.require()
            except MetricUnavailable as error:
                return str(error)
        return None

    def _fill(self, folder: Path, cases: Sequence[Case], champion: Evidence | None, facts: Mapping[str, str]) -> None:
        judgements = {case.target: self._judge(case, champion) for case in cases}
        (folder / GATES).write_text(judgements_to_json(judgements))
        for case in cases[:1]:
            beside = champion.evaluation if champion else None
            write_version_report(folder, case.evidence, judgements[case.target].gates, facts, beside)

    def _judge(self, case: Case, champion: Evidence | None) -> Judgement:
        floor = floor_gates(case.evidence, self.settings)
        key = case.evidence.evaluation.engine_key
        if champion is None:
            return Judgement(key, floor)
        found = regression_gates(champion, case.evidence, case.timings, self.features, self.settings)
        return Judgement(key, floor, found)

    def _distances(self, cases: Sequence[Case], unavailable: str | None) -> dict[str, object]:
        if unavailable or not cases:
            return {"metrics": {}, "unavailable": unavailable}
        found = self.features.distances(cases[0].evidence)
        return {"metrics": found.metrics(), **found.record()}


def told_distances(artifacts: Artifacts, judgement: str) -> Mapping[str, str]:
    """FVD and KVD in words, by name; none if the judgement is not among the artifacts or could take none."""
    if not judgement or not artifacts.has(KIND, judgement):
        return {}
    return in_words(json.loads((artifacts.get(KIND, judgement) / DISTANCES).read_text()))
