import json
import re
import statistics
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from videogen.artifacts import Artifacts
from videogen.cli import app
from videogen.engines.profile import LatencyPoint, LatencyProfile
from videogen.engines.step_costs import step_costs
from videogen.scheduling.arrivals import bursty
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store

SYNTHETIC = ("--synthetic", "--minutes", "0.2")


def run(*arguments, **environment):
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160"} | environment)


def profile(**changed):
    times = {"text_encoder": 0.001, "denoiser": 0.01, "decoder": 0.02}
    points = tuple(
        LatencyPoint(network, batch, streams, seconds * batch * streams**0.5, 1.0, 9)
        for network, seconds in times.items()
        for batch in (1, 2, 4)
        for streams in (1, 2)
    )
    known = LatencyProfile(
        engine_key="e" * 64, target="onnxruntime", precision="fp32", device="a CPU", architecture="x", threads=1,
        exclusive=True, num_inference_steps=4, guided=False, load_seconds=1.0, memory={}, points=points,
    )  # fmt: skip
    return replace(known, **changed)


def test_a_simulation_as_json():
    result = run("simulate", *SYNTHETIC, "--devices", "2", "--rpm", "600", "--json", "--repeats", "0.3")
    assert result.exit_code == 0
    seen = json.loads(result.stdout)
    assert seen["arrived"] == seen["completed"] + seen["refused"] + seen["still_there"] > 50
    assert seen["latency_s"]["short"]["p50"] >= 0.0
    assert seen["cached"] + seen["joined"] > 0
    assert seen["limit"] == "load"


def test_what_surrounds_the_steps_is_told(tmp_path):
    """One request: 10 ms to be accepted, four steps of 45 ms, the last two in one, 20 ms to be answered."""
    trace = tmp_path / "trace"
    trace.write_text("0.5")
    surroundings = ("--accept-ms", "10", "--answer-ms", "20", "--boundary-ms", "5")
    result = run("simulate", *SYNTHETIC, "--trace", str(trace), *surroundings, "--json")
    assert json.loads(result.stdout)["latency_s"]["short"]["p50"] == pytest.approx(0.01 + 4 * 0.045 + 3 * 0.005 + 0.02)


def test_a_simulation_for_people(tmp_path):
    chart = tmp_path / "latency.svg"
    result = run("simulate", *SYNTHETIC, "--rpm", "300", "--mix", "80/20", "--bursts", "--plot", str(chart))
    assert result.exit_code == 0
    for words in ("answered", "devices busy", "short", "long", "p99", "calls", "40 + 5·B ms"):
        assert words in result.stdout
    assert chart.read_text().startswith("<svg")


def test_a_replayed_trace(tmp_path):
    trace = tmp_path / "trace"
    trace.write_text("0.5\n0.25\n3\n")
    result = run("simulate", *SYNTHETIC, "--trace", str(trace), "--json")
    assert json.loads(result.stdout)["completed"] == 3
    trace.write_text("0.5\nsoon\n")
    result = run("simulate", *SYNTHETIC, "--trace", str(trace))
    assert (result.exit_code, result.stderr) == (
        2,
        "videogen: trace line 2: got 'soon'; allowed: seconds of arrival, a number\n",
    )


@pytest.mark.parametrize("mix", ["80", "80/30", "a/b", "50/25/25", ""])
def test_a_mix_that_is_none_is_refused(mix):
    result = run("simulate", *SYNTHETIC, "--mix", mix)
    assert result.exit_code == 2
    assert f"mix: got {mix!r}" in result.stderr


@pytest.mark.parametrize("rpm", ["0", "-1", "nan"])
def test_a_rate_that_is_none_is_refused(rpm):
    result = run("simulate", *SYNTHETIC, "--rpm", rpm)
    assert result.exit_code == 2 and "--rpm" in result.stderr and "0.1" in result.stderr


def test_a_load_of_which_nothing_arrives_is_refused(tmp_path):
    result = run("simulate", *SYNTHETIC, "--rpm", "0.1")
    assert result.exit_code == 2
    assert "rpm: got 0.1; allowed: what has an arrival in the time that is played, 12 s (--minutes)" in result.stderr
    for trace in ("", "13\n"):
        (tmp_path / "trace").write_text(trace)
        result = run("simulate", *SYNTHETIC, "--trace", str(tmp_path / "trace"))
        assert result.exit_code == 2 and f"trace: got '{tmp_path / 'trace'}'" in result.stderr


def test_a_time_in_which_no_video_is_made_is_told_without_a_mean():
    result = run("simulate", "--synthetic", "--minutes", "0.02", "--steps", "100")
    assert result.exit_code == 0 and "none was made" in result.stdout and "nan" not in result.stdout


@pytest.mark.parametrize("content", [b"# A page\n", b"[]", b"{}", b"\xff\x00"])
def test_a_file_that_is_no_profile_is_named(tmp_path, content):
    file = tmp_path / "README.md"
    file.write_bytes(content)
    for command in (("simulate",), ("plan", "--rpm", "10", "--p99", "1", "--price", "1")):
        result = run(*command, "--profile", str(file))
        assert result.exit_code == 2 and f"profile: got '{file}'; allowed: a latency profile" in result.stderr


def test_bursts_are_few_in_a_minute_as_the_help_says():
    """The share by which the arrivals of a minute, and of ten, stray from the rate."""
    for minutes, share in ((1, 1 / 5), (10, 1 / 15)):
        seen = [sum(1 for _ in bursty(5.0, 60 * minutes, seed)) / (300 * minutes) for seed in range(100)]
        assert statistics.pstdev(seen) == pytest.approx(share, rel=0.3)
        assert statistics.mean(seen) == pytest.approx(1, abs=0.05)


def test_without_a_champion_the_error_names_the_synthetic_device(tmp_path):
    for command in (("simulate",), ("plan", "--rpm", "10", "--p99", "1", "--price", "1")):
        result = run(*command, VIDEOGEN_HOME=str(tmp_path))
        assert result.exit_code == 1
        assert "--synthetic" in result.stderr
        assert "Traceback" not in result.output


def test_the_champions_own_profile_is_read(tmp_path):
    store = Store.open(f"embedded:{tmp_path / 'store'}")
    engine = ServedEngine("e" * 64, "fp32", "report")
    store.promote("videogen-tiny", Champion("d" * 64, "videogen-tiny@1", {"cpu": engine}), 0)
    store.close()
    artifacts = Artifacts(str(tmp_path / "artifacts"))
    for key, measured in {"ours": profile(), "another": profile(engine_key="f" * 64, device="another")}.items():
        folder, _ = artifacts.build("warm-ups", key, lambda scratch: (scratch / "note").touch())
        (folder / "profile.json").write_text(measured.to_json())
    result = run("simulate", "--rpm", "60", "--json", VIDEOGEN_HOME=str(tmp_path))
    assert result.exit_code == 0, result.output
    seen = json.loads(result.stdout)
    assert seen["device"] == "videogen-tiny@1: onnxruntime on a CPU"
    assert seen["streams"] == 2


def test_a_guided_step_calls_on_two_rows_for_each_video(tmp_path):
    plain, guided = step_costs(profile()), step_costs(profile(guided=True))
    assert plain.step[2, 1] == pytest.approx(0.02)
    assert guided.step[2, 1] == pytest.approx(0.04)
    assert guided.rest == plain.rest
    file = tmp_path / "profile.json"
    file.write_text(profile().to_json())
    assert run("simulate", "--profile", str(file), "--rpm", "60", "--minutes", "0.1").exit_code == 0


def test_a_plan_shows_arithmetic_that_adds_up():
    asked = ("plan", "--synthetic", "--rpm", "6000", "--p99", "1.5", "--price", "2")
    result = run(*asked)
    assert result.exit_code == 0
    made = json.loads(run(*asked, "--json").stdout)
    assert made["naive_per_hour"] == pytest.approx(8 * 3600 / 0.18)
    assert made["per_hour"] == pytest.approx(16 * 3600 / (4 * 0.12))
    assert made["needed"] == 3 <= made["devices"]
    assert made["usd_per_video"] == pytest.approx(made["devices"] * 2 / 360_000)
    assert made["simulation"]["latency_s"]["short"]["p99"] <= 1.5
    numbers = re.findall(r"[\d,.]*\d", result.stdout)
    for number in ("160,000", "120,000", "1.33", "3.00"):
        assert number in numbers


def test_a_tighter_p99_needs_more_devices():
    def devices(p99):
        result = run("plan", "--synthetic", "--rpm", "3000", "--p99", p99, "--price", "1", "--json")
        return json.loads(result.stdout)["devices"]

    assert devices("0.3") > devices("3")


def test_a_p99_that_one_video_alone_does_not_keep_is_refused():
    result = run("plan", "--synthetic", "--rpm", "60", "--p99", "0.1", "--price", "1")
    assert result.exit_code == 2
    assert "p99: got 0.1; allowed: more than the 0.180 s that a video takes alone" in result.stderr
