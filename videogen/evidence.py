"""From evaluations to gates: what a version's videos say about it, alone and beside the champion's."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from videogen.errors import ArtifactCorrupt, MetricUnavailable
from videogen.evaluation import Evaluation, evaluation_prompts, reference_videos, videos
from videogen.quality.gates import (
    GateReport,
    GateResult,
    GateSettings,
    KvdComparison,
    agreement_floor,
    agreement_regression,
    kvd_regression,
    latency_regression,
    spoilt,
)
from videogen.warming import Timings

if TYPE_CHECKING:
    from videogen.artifacts import Artifacts
    from videogen.quality.features import Distances, FeatureSet

FEATURE_CLIPS = 24
"""Clips of a version that I3D features are taken of: about a CPU second each."""
REFERENCE_CLIPS = 2 * FEATURE_CLIPS
"""Twice as many, so that the floor under a distance is taken at the same sample size as the distance."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one engine of one version."""

    folder: Path
    evaluation: Evaluation
    fps: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """The gates of one engine. `regression` is None where there was no champion to compare with."""

    engine_key: str
    floor: GateReport
    regression: GateReport | None = None

    @property
    def gates(self) -> GateReport:
        """All of them."""
        return GateReport((*self.floor.gates, *(self.regression.gates if self.regression else ())))


def judgements_to_json(judgements: Mapping[str, Judgement]) -> str:
    """Target -> judgement, as text."""
    reports = {
        target: {
            "engine_key": one.engine_key,
            "floor": one.floor.to_json(),
            "regression": one.regression and one.regression.to_json(),
        }
        for target, one in judgements.items()
    }
    return json.dumps(reports, indent=1) + "\n"


def judgements_from_json(text: str) -> dict[str, Judgement]:
    """The inverse. Raises ArtifactCorrupt, QualityError."""
    try:
        stored = json.loads(text)
        reports = {target: (one["engine_key"], one["floor"], one["regression"]) for target, one in stored.items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ArtifactCorrupt(f"these are no judgements: {error}") from error
    return {
        target: Judgement(key, GateReport.from_json(floor), GateReport.from_json(regression) if regression else None)
        for target, (key, floor, regression) in reports.items()
    }


@dataclass(frozen=True, slots=True)
class Features:
    """Takes I3D features of clips, where the weights of I3D can be had. `fetch` allows their download."""

    artifacts: "Artifacts"
    threads: int = 1
    fetch: bool = True

    def require(self) -> None:
        """Raises MetricUnavailable where the weights of I3D cannot be had."""
        from videogen.quality.i3d_weights import i3d_weights

        i3d_weights(self.artifacts, self.fetch)

    def of(self, evidence: Evidence, indices: Sequence[int]) -> "FeatureSet":
        """Of the clips that answer these prompts. Raises MetricUnavailable, QualityError."""
        from videogen.quality.features import features

        answers = [evidence.evaluation.answers[index] for index in indices]
        return features(self.artifacts, videos(evidence.folder, answers), self.threads, self.fetch)

    def of_reference(self, fps: int, is_spoilt: bool = False) -> "FeatureSet":
        """Of what the world itself shows for these prompts; `is_spoilt`: out of focus. At 8 fps known beforehand."""
        from videogen.quality.features import features

        prompts = evaluation_prompts(FEATURE_CLIPS if is_spoilt else REFERENCE_CLIPS)
        clips = reference_videos(prompts, fps)
        clips = [spoilt(clip) for clip in clips] if is_spoilt else clips
        return features(self.artifacts, clips, self.threads, self.fetch)

    def distances(self, evidence: Evidence) -> "Distances":
        """FVD and KVD from the reference, on the first clips that were made. Raises MetricUnavailable, QualityError."""
        from videogen.quality.features import distances

        return distances(self.of_reference(evidence.fps), self.of(evidence, made(evidence)[:FEATURE_CLIPS]))

    def compare(
        self, champion: Evidence, candidate: Evidence, indices: Sequence[int], settings: GateSettings
    ) -> KvdComparison:
        """KVD(candidate) - KVD(champion) on clips of the same prompts. Raises MetricUnavailable, QualityError."""
        from videogen.quality.kvd import kvd, kvd_difference

        reference, bad = (self.of_reference(candidate.fps, spoiling).values for spoiling in (False, True))
        old, new = (self.of(evidence, indices).values for evidence in (champion, candidate))
        found = kvd_difference(reference, old, new, settings.level, settings.resamples)
        return KvdComparison(found.value, found.low, found.high, kvd(reference, bad), len(indices), "i3d")


def made(*evidence: Evidence) -> list[int]:
    """The prompts, by index, that every one of these answered with a clip."""
    answers = zip(*(each.evaluation.answers for each in evidence), strict=True)
    return [index for index, row in enumerate(answers) if all(answer.video for answer in row)]


def floor_gates(candidate: Evidence, settings: GateSettings) -> GateReport:
    """What every version must show, whatever serves now."""
    return GateReport((agreement_floor(candidate.evaluation.agreement(), settings),))


def regression_gates(
    champion: Evidence, candidate: Evidence, timings: Timings, features: Features, settings: GateSettings
) -> GateReport:
    """What a version must show beside the champion: prompts and seeds are the same, so everything is paired."""
    hits = [evidence.evaluation.agreement().hits for evidence in (champion, candidate)]
    return GateReport(
        (
            agreement_regression(hits[0], hits[1], settings),
            _kvd(champion, candidate, features, settings),
            latency_regression(timings.champion, timings.candidate, settings),
        )
    )


def _kvd(champion: Evidence, candidate: Evidence, features: Features, settings: GateSettings) -> GateResult:
    pairs = made(champion, candidate)[:FEATURE_CLIPS]
    if len(pairs) < settings.kvd_regression.minimum_clips:
        return kvd_regression(None, settings)
    try:
        return kvd_regression(features.compare(champion, candidate, pairs, settings), settings)
    except MetricUnavailable as error:
        without = kvd_regression(None, settings)
        return replace(without, reason=f"{without.reason} ({error})")
