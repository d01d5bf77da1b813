"""Each gate on both sides of its limit and on it; the paired interval against simulated truth."""

import dataclasses
import json
import tomllib

import numpy as np
import pytest
from scipy.stats import bootstrap

from videogen.errors import InvalidSetting, QualityError
from videogen.quality import gates
from videogen.quality.agreement import Agreement, agreement
from videogen.quality.gates import GateReport, GateSettings, KvdComparison
from videogen.quality.oracle import Verdict
from videogen.world.grammar import Attributes

WANTED = Attributes("small", "red", "ring", "up", "black")
RIGHT = Verdict("small", "red", "ring", "up", "black")
WRONG = dataclasses.replace(RIGHT, shape=None)


@pytest.fixture(scope="module")
def settings() -> GateSettings:
    return gates.read_settings()


def agreed(right: int, n: int) -> Agreement:
    return agreement([(WANTED, RIGHT if index < right else WRONG) for index in range(n)])


def hits(both: int, lost: int, gained: int, neither: int) -> tuple[list[bool], list[bool]]:
    champion = [True] * (both + lost) + [False] * (gained + neither)
    candidate = [True] * both + [False] * lost + [True] * gained + [False] * neither
    return champion, candidate


# --- settings


def test_an_unknown_or_impossible_setting_is_named(tmp_path) -> None:
    text = (gates.resources.files("videogen.quality") / "gates.toml").read_text()
    path = tmp_path / "gates.toml"
    path.write_text(text.replace("psnr_db", "psnr_bd"))
    with pytest.raises(InvalidSetting, match=r"fidelity\.psnr_bd"):
        gates.read_settings(path)
    path.write_text(text.replace("joint = 0.60", "joint = 60"))
    with pytest.raises(InvalidSetting, match=r"agreement_floor\.joint"):
        gates.read_settings(path)
    path.write_text(text)
    assert gates.read_settings(path) == GateSettings.model_validate(tomllib.loads(text))


# --- files and fidelity


def test_files(settings: GateSettings) -> None:
    assert gates.files_intact(None, 7).outcome == "pass"
    assert gates.files_intact(None, 0).outcome == "inconclusive"
    broken = gates.files_intact("vae/config.json is not what the manifest says", 7)
    assert broken.outcome == "fail" and "vae/config.json" in broken.reason


@pytest.mark.parametrize(
    ("psnr", "outcome"),
    [
        ([45, 44, 47, 46, 45], "pass"),
        ([22, 23, 21, 24, 22], "fail"),
        ([20, 40, 25, 38, 27], "inconclusive"),
        ([45, 46], "inconclusive"),
        ([], "inconclusive"),
        ([45, 44, float("nan"), 46, 45], "fail"),
    ],
)
def test_fidelity(psnr: list[float], outcome: str, settings: GateSettings) -> None:
    found, _ = gates.fidelity(psnr, [0.99] * len(psnr), settings)
    assert found.outcome == outcome and found.n == len(psnr)


def test_ssim_is_a_gate_of_its_own(settings: GateSettings) -> None:
    psnr, ssim = gates.fidelity([45.0] * 8, [0.9] * 8, settings)
    assert (psnr.outcome, ssim.outcome) == ("pass", "fail")
    assert "SSIM 0.9" in ssim.reason and "0.95" in ssim.reason


def test_the_interval_of_a_mean_is_the_bootstrap_of_scipy() -> None:
    sample = np.random.default_rng(3).gamma(2, 5, 40)
    found = gates.mean_interval(sample, 0.95, 4000)
    other = bootstrap((sample,), np.mean, n_resamples=4000, method="percentile", rng=1).confidence_interval
    assert found.value == pytest.approx(sample.mean())
    assert (found.low, found.high) == pytest.approx((other.low, other.high), abs=0.03 * sample.std())


# --- agreement


@pytest.mark.parametrize(
    ("right", "n", "outcome"),
    [(64, 64, "pass"), (52, 64, "pass"), (40, 64, "inconclusive"), (10, 64, "fail"), (20, 20, "inconclusive")],
)
def test_the_floor(right: int, n: int, outcome: str, settings: GateSettings) -> None:
    assert gates.agreement_floor(agreed(right, n), settings).outcome == outcome


def test_too_few_clips_say_how_many_are_needed(settings: GateSettings) -> None:
    assert "20 samples are too few, 48 are needed" in gates.agreement_floor(agreed(20, 20), settings).reason


@pytest.mark.parametrize(
    ("counts", "outcome"),
    [
        ((56, 0, 0, 8), "pass"),
        ((54, 2, 3, 5), "pass"),
        ((44, 8, 3, 9), "inconclusive"),
        ((2, 54, 0, 8), "fail"),
        ((16, 0, 0, 4), "inconclusive"),
    ],
)
def test_no_regression_in_pairs(counts: tuple[int, ...], outcome: str, settings: GateSettings) -> None:
    found = gates.agreement_regression(*hits(*counts), settings)
    assert found.outcome == outcome
    assert found.value == pytest.approx((counts[2] - counts[1]) / sum(counts))


def test_pairing_tells_what_unpaired_shares_could_not(settings: GateSettings) -> None:
    """The same two shares, 44 and 42 of 64: in step they are a pass, out of step they could be anything."""
    assert gates.agreement_regression(*hits(42, 2, 0, 20), settings).outcome == "pass"
    assert gates.agreement_regression(*hits(24, 20, 18, 2), settings).outcome == "inconclusive"


def test_the_paired_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng, chances = np.random.default_rng(0), (0.7, 0.12, 0.05, 0.13)
    held = 0
    for _ in range(1500):
        measure = gates.paired_difference(*hits(*rng.multinomial(64, chances)), 0.95)
        held += measure.low <= chances[2] - chances[1] <= measure.high
    assert 0.93 <= held / 1500 <= 0.985


def test_what_is_no_pair_is_refused(settings: GateSettings) -> None:
    for champion, candidate in (([True], [True, False]), ([], [])):
        with pytest.raises(QualityError, match="not pairs"):
            gates.agreement_regression(champion, candidate, settings)


# --- distance and time


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [((-5.0, -20.0, 10.0), "pass"), ((80.0, 60.0, 99.0), "fail"), ((30.0, -10.0, 70.0), "inconclusive")],
)
def test_distance(difference: tuple[float, float, float], outcome: str, settings: GateSettings) -> None:
    found = gates.kvd_regression(KvdComparison(*difference, scale=100.0, n=64, features="i3d"), settings)
    assert found.outcome == outcome and found.value == pytest.approx(difference[0] / 100)


def test_distance_without_evidence(settings: GateSettings) -> None:
    few = KvdComparison(-5.0, -9.0, -1.0, scale=100.0, n=8, features="i3d")
    blind = dataclasses.replace(few, scale=-2.0, n=64)
    for comparison in (None, few, blind):
        assert gates.kvd_regression(comparison, settings).outcome == "inconclusive"


def test_a_spoilt_clip_is_out_of_focus() -> None:
    clip = np.zeros((2, 60, 60, 3), np.uint8)
    clip[:, 20:40, 20:40] = 250
    spoilt = gates.spoilt(clip)
    assert spoilt.shape == clip.shape and spoilt.dtype == np.uint8
    assert 100 < spoilt[0, 30, 19:21, 0].mean() < 150 and spoilt[0, 30, 30, 0] == 250


@pytest.mark.parametrize(("factor", "outcome"), [(0.2, "pass"), (1.0, "pass"), (2.0, "fail"), (1.25, "inconclusive")])
def test_time(factor: float, outcome: str, settings: GateSettings) -> None:
    rng = np.random.default_rng(0)
    champion = {size: list(0.1 * size * rng.normal(1, 0.02, 7)) for size in (1, 4, 8)}
    candidate = {size: list(factor * 0.1 * size * rng.normal(1, 0.02, 7)) for size in (1, 4, 16)}
    found = gates.latency_regression(champion, candidate, settings)
    assert found.outcome == outcome and found.value == pytest.approx(factor, rel=0.03)
    assert "at 1 and 4 requests," in found.reason


def test_time_without_evidence(settings: GateSettings) -> None:
    assert gates.latency_regression({1: [0.1] * 5}, {2: [0.1] * 5}, settings).outcome == "inconclusive"
    assert gates.latency_regression({1: [0.1]}, {1: [0.1]}, settings).outcome == "inconclusive"


def test_without_a_champion_on_a_target_the_report_says_that_time_was_not_compared(settings: GateSettings) -> None:
    found = gates.latency_regression({}, {1: [0.1] * 5}, settings)
    assert (found.outcome, found.value) == ("pass", None)
    assert "not compared: the champion has no engine for this target" in found.reason


# --- together


def test_one_failure_decides_and_doubt_is_no_pass(settings: GateSettings) -> None:
    good = gates.files_intact(None, 3)
    doubt = gates.agreement_floor(agreed(20, 20), settings)
    bad = gates.agreement_floor(agreed(1, 64), settings)
    assert GateReport((good, good)).outcome == "pass"
    assert GateReport((good, doubt)).outcome == "inconclusive"
    assert GateReport((good, doubt, bad)).outcome == "fail"
    assert GateReport(()).outcome == "inconclusive"
    assert GateReport((good, doubt, bad)).reason == bad.reason


def test_a_report_survives_the_disk(settings: GateSettings) -> None:
    report = GateReport((gates.files_intact(None, 3), gates.agreement_floor(agreed(50, 64), settings)))
    again = GateReport.from_json(report.to_json())
    assert again == report and again.digest == report.digest
    assert json.loads(report.to_json())["outcome"] == report.outcome
    with pytest.raises(QualityError, match="no gate report"):
        GateReport.from_json("{}")
