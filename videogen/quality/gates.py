"""Gates: what a model version must show before it serves, decided by intervals.

Each gate is a pure function that holds an estimate and its interval against a limit from `gates.toml`. It passes
when the whole interval is on the good side, fails when the whole interval is on the bad side, and is inconclusive in
between or when there are too few samples. FVD is no gate: at a few dozen clips it is mostly bias.
"""

import hashlib
import json
import math
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy import ndimage

from videogen.errors import InvalidSetting, QualityError
from videogen.quality.agreement import Agreement, wilson

Outcome = Literal["pass", "fail", "inconclusive"]
Share = Field(ge=0, le=1)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FidelitySettings(_Table):
    """An engine against the FP32 reference: floors of the mean PSNR (dB) and SSIM."""

    minimum_clips: int = Field(ge=1)
    psnr_db: float
    ssim: float = Share


class AgreementFloorSettings(_Table):
    """A first version against its prompts."""

    minimum_clips: int = Field(ge=1)
    joint: float = Share


class AgreementRegressionSettings(_Table):
    """How much less often than the champion a candidate may agree."""

    minimum_pairs: int = Field(ge=2)
    margin: float = Share


class KvdRegressionSettings(_Table):
    """How much farther from the reference a candidate may be, as a share of `KvdComparison.scale`."""

    minimum_clips: int = Field(ge=2)
    margin: float = Field(ge=0)


class LatencyRegressionSettings(_Table):
    """How many times the champion's T(B) a candidate may take."""

    minimum_timings: int = Field(ge=1)
    ratio: float = Field(gt=0)


class GateSettings(_Table):
    """`gates.toml`."""

    level: float = Field(gt=0, lt=1)
    resamples: int = Field(ge=100)
    fidelity: FidelitySettings
    agreement_floor: AgreementFloorSettings
    agreement_regression: AgreementRegressionSettings
    kvd_regression: KvdRegressionSettings
    latency_regression: LatencyRegressionSettings


def read_settings(path: Path | None = None) -> GateSettings:
    """The settings in `path`, else in the file that VIDEOGEN_GATES names, else those that ship.

    Raises InvalidSetting naming what is wrong.
    """
    shipped, named = resources.files("videogen.quality") / "gates.toml", os.environ.get("VIDEOGEN_GATES")
    source = path or (Path(named) if named else shipped)
    try:
        return GateSettings.model_validate(tomllib.loads(source.read_text()))
    except (OSError, ValueError) as error:
        raise InvalidSetting("VIDEOGEN_GATES", str(source), f"a file like gates.toml: {error}") from error


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one gate found: an estimate with its interval, held against a limit, on `n` samples.

    `reason` says it for people. Numbers are None where there is nothing to measure.
    """

    name: str
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    n: int
    reason: str


@dataclass(frozen=True, slots=True)
class GateReport:
    """Several gates and what they mean together."""

    gates: tuple[GateResult, ...]

    @property
    def outcome(self) -> Outcome:
        """fail where any gate failed, else inconclusive where any was (or there are none), else pass."""
        outcomes = {gate.outcome for gate in self.gates}
        if "fail" in outcomes:
            return "fail"
        return "pass" if outcomes == {"pass"} else "inconclusive"

    @property
    def reason(self) -> str:
        """Why, in a sentence per gate that decided it."""
        if not self.gates:
            return "no gate was run"
        decisive = [gate.reason for gate in self.gates if gate.outcome == self.outcome]
        return "all gates passed" if self.outcome == "pass" else "; ".join(decisive)

    def to_json(self) -> str:
        """Canonical text: the same results give the same bytes."""
        stored = {"outcome": self.outcome, "gates": [asdict(gate) for gate in self.gates]}
        return json.dumps(stored, sort_keys=True, indent=1, allow_nan=False) + "\n"

    @property
    def digest(self) -> str:
        """sha256 of `to_json`."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @classmethod
    def from_json(cls, text: str) -> "GateReport":
        """The inverse of `to_json`. Raises QualityError where the text holds no report."""
        try:
            return cls(tuple(GateResult(**gate) for gate in json.loads(text)["gates"]))
        except (ValueError, TypeError, KeyError) as error:
            raise QualityError(f"this is no gate report: {error}") from error


@dataclass(frozen=True, slots=True)
class Measure:
    """An estimate with its interval, on `n` samples."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class KvdComparison:
    """KVD(candidate) - KVD(champion) against one reference, paired by prompt and seed.

    `scale` is what the margin is a share of: the KVD between the reference and the same clips `spoilt`, on the same
    features, so that the margin means the same for every feature set.
    """

    difference: float
    low: float
    high: float
    scale: float
    n: int
    features: str


def _held_against(
    name: str,
    measure: Measure,
    limit: float,
    minimum: int,
    better: Literal["above", "below"],
    what: str,
    unit: str = "",
) -> GateResult:
    value, low, high = measure.value, measure.low, measure.high
    shown = f"{what} {value:.4g}{unit} [{low:.4g}, {high:.4g}] on {measure.n}"
    good, bad = (low >= limit, high < limit) if better == "above" else (high <= limit, low > limit)
    side = "at least" if better == "above" else "at most"
    outcome: Outcome
    if measure.n < minimum:
        outcome, said = "inconclusive", f"{measure.n} samples are too few, {minimum} are needed"
    elif good:
        outcome, said = "pass", f"is {side} {limit:.4g}{unit}"
    elif bad:
        outcome, said = "fail", f"should be {side} {limit:.4g}{unit}"
    else:
        outcome, said = "inconclusive", f"could be on either side of {limit:.4g}{unit}; more samples would tell"
    return GateResult(name, outcome, value, low, high, limit, measure.n, f"{name}: {shown}: {said}")


def _without_evidence(name: str, limit: float | None, why: str) -> GateResult:
    return GateResult(name, "inconclusive", None, None, None, limit, 0, f"{name}: {why}")


def mean_interval(values: Sequence[float], level: float, resamples: int, seed: int = 0) -> Measure:
    """The mean and its percentile bootstrap interval."""
    sample = np.asarray(values, np.float64)
    drawn = np.random.default_rng(seed).choice(sample, (resamples, len(sample))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Measure(float(sample.mean()), float(low), float(high), len(sample))


def paired_difference(champion: Sequence[bool], candidate: Sequence[bool], level: float) -> Measure:
    """Candidate's share of hits minus champion's, paired.

    The estimate is the plain one; the interval is Bonett and Price's (2012), which adds one to each kind of
    disagreement, so that no disagreement at all doesn't give an interval of no width. Raises QualityError for
    sequences of different lengths or none.
    """
    if len(champion) != len(candidate) or not len(champion):
        raise QualityError(f"{len(champion)} champion and {len(candidate)} candidate clips are not pairs")
    old, new, n = np.asarray(champion, bool), np.asarray(candidate, bool), len(champion)
    gained, lost = int((new & ~old).sum()), int((old & ~new).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = max(-1.0, up - down - reach), min(1.0, up - down + reach)
    return Measure((gained - lost) / n, low, high, n)


def files_intact(problem: str | None, files: int) -> GateResult:
    """Every file is what its manifest says; `problem` is what is wrong, None where nothing is."""
    if problem is not None:
        return GateResult("files_intact", "fail", None, None, None, None, files, f"files_intact: {problem}")
    if files < 1:
        return _without_evidence("files_intact", None, "there are no files")
    said = f"files_intact: {files} files are what the manifest says"
    return GateResult("files_intact", "pass", None, None, None, None, files, said)


def fidelity(psnr: Sequence[float], ssim: Sequence[float], settings: GateSettings) -> tuple[GateResult, GateResult]:
    """An engine's clips against the FP32 reference at the same seeds: one PSNR (dB) and one SSIM per clip."""
    rules = settings.fidelity
    results = []
    kinds = (
        ("fidelity_psnr", psnr, rules.psnr_db, "mean PSNR", " dB"),
        ("fidelity_ssim", ssim, rules.ssim, "mean SSIM", ""),
    )
    for name, values, limit, what, unit in kinds:
        if not len(values):
            results.append(_without_evidence(name, limit, "no clip was compared"))
        elif not np.isfinite(values).all():
            wrong = int((~np.isfinite(values)).sum())
            said = f"{name}: {wrong} of {len(values)} clips gave no finite number"
            results.append(GateResult(name, "fail", None, None, None, limit, len(values), said))
        else:
            measure = mean_interval(values, settings.level, settings.resamples)
            results.append(_held_against(name, measure, limit, rules.minimum_clips, "above", what, unit))
    return results[0], results[1]


def agreement_floor(agreed: Agreement, settings: GateSettings) -> GateResult:
    """A first version: the share of clips that show all five attributes."""
    rules, share = settings.agreement_floor, wilson(agreed.joint.right, agreed.n, settings.level)
    measure = Measure(share.value, share.low, share.high, share.n)
    return _held_against("agreement_floor", measure, rules.joint, rules.minimum_clips, "above", "prompt agreement")


def agreement_regression(champion: Sequence[bool], candidate: Sequence[bool], settings: GateSettings) -> GateResult:
    """No less agreement than the champion's, but for the margin; hits of the same prompts and seeds in order.

    Raises QualityError where they are not pairs.
    """
    rules = settings.agreement_regression
    measure = paired_difference(champion, candidate, settings.level)
    what = f"prompt agreement {np.mean(candidate):.3f} against the champion's {np.mean(champion):.3f}, difference"
    return _held_against("agreement_regression", measure, -rules.margin, rules.minimum_pairs, "above", what)


def spoilt(frames: np.ndarray) -> np.ndarray:
    """A clip, uint8 (T, H, W, 3), out of focus by a thirtieth of its height: a loss that anybody sees."""
    blur = frames.shape[1] / 30
    return ndimage.gaussian_filter(frames.astype(np.float32), (0, blur, blur, 0)).round().astype(np.uint8)


def kvd_regression(comparison: KvdComparison | None, settings: GateSettings) -> GateResult:
    """No farther from the reference than the champion, but for the margin. None where no features could be taken."""
    rules, name = settings.kvd_regression, "kvd_regression"
    if comparison is None:
        return _without_evidence(name, rules.margin, "no features were taken, so there is no distance")
    if not comparison.scale > 0:
        return _without_evidence(name, rules.margin, "the features don't tell clips from spoilt ones")
    scaled = [v / comparison.scale for v in (comparison.difference, comparison.low, comparison.high)]
    what = f"KVD ({comparison.features}) candidate minus champion, over {comparison.scale:.4g} for spoilt clips,"
    return _held_against(name, Measure(*scaled, comparison.n), rules.margin, rules.minimum_clips, "below", what)


def latency_regression(
    champion: Mapping[int, Sequence[float]], candidate: Mapping[int, Sequence[float]], settings: GateSettings
) -> GateResult:
    """T(B) against the champion's on the same device: requests asked together -> seconds of each timing of all.

    The ratio of medians at each number of requests that both have, as a geometric mean, with a bootstrap over timings.
    With no champion on this device there is nothing to be slower than: it passes, and says so.
    """
    rules, name = settings.latency_regression, "latency_regression"
    if not champion:
        said = f"{name}: not compared: the champion has no engine for this target"
        return GateResult(name, "pass", None, None, None, rules.ratio, 0, said)
    sizes = sorted(size for size in champion.keys() & candidate.keys() if len(champion[size]) and len(candidate[size]))
    if not sizes:
        return _without_evidence(name, rules.ratio, "the two were timed at no common number of requests")
    rng = np.random.default_rng(0)

    def log_median(times: Sequence[float]) -> tuple[float, np.ndarray]:
        sample = np.asarray(times, np.float64)
        drawn = np.median(rng.choice(sample, (settings.resamples, len(sample))), axis=1)
        return math.log(np.median(sample)), np.log(drawn)

    new, old = ([log_median(times[size]) for size in sizes] for times in (candidate, champion))
    value = math.exp(np.mean([a[0] - b[0] for a, b in zip(new, old, strict=True)]))
    drawn = np.exp(np.mean([a[1] - b[1] for a, b in zip(new, old, strict=True)], axis=0))
    low, high = np.quantile(drawn, [(1 - settings.level) / 2, (1 + settings.level) / 2])
    fewest = min(len(times[size]) for size in sizes for times in (champion, candidate))
    what = f"T(B) over the champion's at {' and '.join(map(str, sizes))} requests, fewest timings"
    return _held_against(
        name, Measure(value, float(low), float(high), fewest), rules.ratio, rules.minimum_timings, "below", what
    )
