"""submit, status, show and models on a real store, with a champion of random weights."""

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
from dagster._daemon.types import DaemonHeartbeat
from typer.testing import CliRunner

from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.cli import app
from videogen.commands.waiting import hint
from videogen.judging import DISTANCES
from videogen.judging import KIND as JUDGEMENTS
from videogen.labels import parse_label
from videogen.manifest import build_manifest
from videogen.media.mp4 import decode_mp4, encode_mp4
from videogen.promotion import ASKED, CANDIDATE
from videogen.quality.reading import HOW_TO_READ
from videogen.registry import ModelRegistry
from videogen.resolve import WEIGHTS
from videogen.settings import read_settings
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store

RING = "a large red ring moving left on a dotted background"
STAR = "a small green star bouncing on a striped background"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_random_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "home"


@pytest.fixture
def store(home):
    with Store.open(f"embedded:{home}/store") as store:
        yield store


@pytest.fixture
def champion(home, store, model):
    digest = build_manifest(model).digest
    Artifacts(str(home / "artifacts")).build(WEIGHTS, digest, lambda to: shutil.copytree(model, to, dirs_exist_ok=True))
    engine = ServedEngine("no such engine", "fp32", "report")
    return store.promote("videogen-tiny", Champion(digest, "videogen-tiny@1", {"cpu": engine}), 0)


def run(*arguments, **options):
    return CliRunner().invoke(app, list(map(str, arguments)), **options)


def submit(*arguments, **options):
    result = run("submit", *arguments, "--json", **options)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def asked_of(uri, label):
    name, number = parse_label(label)
    return ModelRegistry(uri).version(name, number).tags[ASKED]


def answer(store):
    """What a drain run does, with a grey video."""
    batch = store.seal_batch([record.id for record in store.waiting()], time_limit_s=60)
    for claim in store.claim(batch.id, holder="test", lease_s=60):
        frames = np.full((16, 64, 64, 3), claim.request.request.seed, np.uint8)
        store.publish(claim, encode_mp4(frames, 8), {"engine": "grey", "label": claim.request.label})
    store.finish_batch(batch.id, holder="test")


def test_each_prompt_is_queued_count_times_with_seeds_that_count_up(store, champion):
    queued = submit(RING, STAR, "--count", 3, "--seed", 7, "--priority", "interactive", "--tenant", "studio")
    assert [(one["prompt"], one["seed"]) for one in queued] == [(p, s) for p in (RING, STAR) for s in (7, 8, 9)]
    record = store.request(queued[-1]["id"])
    assert (record.state, record.lane, record.priority, record.source) == ("queued", "batch", "interactive", "cli")
    assert record.accepted.version_digest == champion.version_digest
    assert record.accepted.request.tenant == "studio"


def test_without_a_seed_each_video_draws_its_own(store, champion):
    assert len({one["seed"] for one in submit(RING, "--count", 8)}) == 8


def test_a_file_gives_fields_line_by_line_and_options_fill_what_it_leaves_open(store, champion, tmp_path):
    lines = [{"prompt": RING, "seed": 3, "tenant": "a"}, {"prompt": STAR}]
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)))
    first, second = submit("--file", file, "--tenant", "b", "--steps", 2)
    assert first["seed"] == 3
    requests = [store.request(one["id"]).accepted.request for one in (first, second)]
    assert [(request.tenant, request.num_inference_steps) for request in requests] == [("a", 2), ("b", 2)]
    assert [one["prompt"] for one in submit("--file", "-", input=json.dumps(lines[1]))] == [STAR]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"prompt": "a purple ring"}', ["line 2: prompt", "'purple'", "the model knows"]),
        ('{"prompt": "a red ring", "widht": 64}', ["line 2: widht", "did you mean width?"]),
        ('{"promt": "a red ring"}', ["line 2: promt", "did you mean prompt?"]),
        ('{"prompt": "a red ring", "width": 65}', ["line 2: width", "got 65", "allowed: 64"]),
        ('{"prompt": "a red ring"', ["line 2: request", "one JSON object"]),
        ('["a red ring"]', ["line 2: request", "one JSON object"]),
        ('{"prompt": "a red ring", "model": "nobody"}', ["line 2: model", "'nobody'", "none yet"]),
        ('{"prompt": "a red ring", "model": "videogen-tiny@7"}', ["line 2: model", "@champion or videogen-tiny@1"]),
    ],
)  # fmt: skip
def test_one_bad_line_is_named_and_nothing_is_queued(store, champion, tmp_path, line, words):
    file = tmp_path / "prompts.jsonl"
    file.write_text(json.dumps({"prompt": RING}) + "\n" + line + "\n")
    result = run("submit", "--file", file)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert all(word in result.stderr for word in words), result.stderr
    assert store.requests() == []


def test_nothing_to_submit_says_what_to_type(store, champion):
    result = run("submit")
    assert result.exit_code == 2
    assert "--file" in result.stderr


def test_an_empty_file_says_that_it_is_empty(store, champion, tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for arguments in ([], [RING]):
        result = run("submit", *arguments, "--file", tmp_path / "empty.jsonl")
        assert result.exit_code == 2
        assert "empty.jsonl" in result.stderr and "this is empty" in result.stderr
    assert store.requests() == []


def test_every_unknown_word_is_named_with_the_nearest_known_one(store, champion):
    result = run("submit", "a purple elephant and a rinng")
    assert result.exit_code == 2
    assert "got ['purple', 'elephant', 'rinng']" in result.stderr
    assert "did you mean ring or rising for 'rinng'?" in result.stderr


def test_without_a_champion_a_request_is_refused_with_the_way_on(store):
    result = run("submit", RING)
    assert result.exit_code == 2
    assert all(words in result.stderr for words in ("videogen-tiny has none yet", "make demo", "--ungated"))


def test_an_answered_request_is_shown_with_its_video_and_where_that_came_from(home, store, champion, tmp_path):
    (queued,) = submit(RING, "--seed", 5)
    assert re.search(r"^state +queued$", run("show", queued["id"]).stdout, re.M)
    answer(store)
    shown = json.loads(run("show", queued["id"], "--json").stdout)
    assert (shown["state"], shown["seed"], shown["provenance"]["engine"]) == ("done", 5, "grey")
    assert (home / "videos" / f"{queued['id']}.mp4").stat().st_size == shown["bytes"]
    result = run("show", queued["id"], "-o", tmp_path / "here" / "ring.mp4")
    assert str(tmp_path / "here" / "ring.mp4") in result.stdout
    assert (tmp_path / "here" / "ring.mp4").read_bytes() == store.read_video(shown["sha256"])


def test_what_is_shown_to_people_stands_in_columns_and_once(store, champion):
    (queued,) = submit(RING, "--seed", 5)
    answer(store)
    shown = run("show", queued["id"]).stdout
    facts = shown.split("provenance\n")[0].splitlines()
    assert all(re.match(r"\w+ {2,}\S", fact) for fact in facts)
    assert len({re.match(r"\w+ +", fact).end() for fact in facts}) == 1
    assert re.search(r"^seed +5$", shown, re.M) and re.search(r"^num_inference_steps +\d+$", shown, re.M)
    assert "{" not in shown and shown.count(RING) == 1 and re.search(r"^  engine +grey$", shown, re.M)


def test_a_video_is_saved_under_a_name_that_says_what_it_is(store, champion, tmp_path):
    (queued,) = submit(RING, "--seed", 5)
    answer(store)
    result = run("show", queued["id"], "-o", tmp_path / "ring.gif")
    assert result.exit_code == 2 and ".mp4" in result.stderr
    assert not (tmp_path / "ring.gif").exists()


def test_the_same_request_again_is_done_at_once(store, champion):
    submit(RING, "--seed", 5)
    answer(store)
    assert "done, it was there already" in run("submit", RING, "--seed", 5).stdout
    assert run("submit", RING, "--seed", 5, "--wait", "--timeout", 5).exit_code == 0


def test_waiting_ends_at_its_timeout_and_with_failures(store, champion):
    late = run("submit", RING, "--wait", "--timeout", 0.1)
    assert late.exit_code == 1
    assert "of 1 request failed, 1 still waits" in late.stderr
    (claim,) = store.claim([store.waiting()[0].id], holder="test", lease_s=60)
    store.fail(claim, "the moon was in the way", retry=False)
    failed = run("submit", RING, "--deadline", 0.01, "--wait", "--timeout", 20)
    assert failed.exit_code == 1
    assert "expired" in failed.stderr or "failed" in failed.stderr
    assert "moon" in run("status").stdout


def test_waiting_ends_with_each_state_and_the_paths_of_the_videos(home, store, champion, tmp_path):
    for seed in (5, 6):
        submit(RING, "--seed", seed)
    answer(store)
    lines = run("submit", RING, "--count", 2, "--seed", 5, "--wait", "--timeout", 20).stdout.splitlines()
    ends = [line.split() for line in lines[2:]]
    assert [(state, seed) for _, state, _, seed, _ in ends] == [("done", "5"), ("done", "6")]
    paths = [home / "videos" / f"{one}.mp4" for one, *_ in ends]
    assert [path for *_, path in ends] == list(map(str, paths)) and all(path.stat().st_size for path in paths)
    (told,) = submit(RING, "--seed", 5, "--wait", "--timeout", 20, "--output", tmp_path / "here")
    assert told["state"] == "done" and told["seed"] == 5
    assert told["video"] == f"{tmp_path}/here/{told['id']}.mp4" and decode_mp4(Path(told["video"]).read_bytes()).any()
    late = run("submit", RING, "--seed", 7, "--wait", "--timeout", 0.1, "--json")
    assert late.exit_code == 1
    assert (json.loads(late.stdout)["state"], json.loads(late.stdout)["video"]) == ("queued", None)


def test_waiting_for_a_daemon_that_is_not_there_says_at_once_what_to_start(store, champion):
    result = run("submit", RING, "--wait", "--timeout", 1)
    assert result.exit_code == 1
    assert result.stderr.count("make dev") == 1 and "is not running" in result.stderr
    assert "this waits on, for 1 s at most" in result.stderr


def test_the_hint_comes_through_a_pipe_while_the_command_waits(home, store, champion):
    code = "from videogen.cli import app; app()"
    command = [sys.executable, "-c", code, "submit", RING, "--wait", "--timeout", "120"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        told = next((line for line in waiting.stderr if "nobody has begun" in line), "")
        is_waiting = waiting.poll() is None
        waiting.kill()
    assert "make dev" in told and is_waiting


def test_the_hint_waits_longer_for_a_daemon_that_lives_and_for_nothing_once_one_has_begun(home, store):
    settings = read_settings()
    assert "is not running" in hint(["queued"], settings, 0.0)
    assert hint(["queued", "assigned"], settings, 1000.0) == ""
    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text("")
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        instance.add_daemon_heartbeat(DaemonHeartbeat(time.time(), "SENSOR", "one", []))
    assert hint(["queued"], settings, 6.0) == "" and "is alive" in hint(["queued"], settings, 61.0)


def test_status_says_what_to_start_where_a_request_waits(store, champion):
    assert "nobody" not in run("status").stderr
    submit(RING)
    seen = run("status")
    assert seen.stderr.count("make dev") == 1 and "1 queued" in seen.stdout
    json.loads(run("status", "--json").stdout)


def test_output_without_wait_is_refused(store, champion, tmp_path):
    result = run("submit", RING, "--output", tmp_path)
    assert result.exit_code == 2 and "--wait" in result.stderr
    (tmp_path / "file").write_text("")
    assert run("submit", RING, "--wait", "--output", tmp_path / "file").exit_code == 2
    assert store.requests() == []


def test_ids_and_seeds_are_whole_on_a_narrow_terminal(store, champion, monkeypatch):
    queued = submit(RING, "--count", 2, "--seed", 7)
    monkeypatch.setenv("COLUMNS", "80")
    words = run("status").stdout
    assert all(re.search(rf"^{one['id']} +queued +seed {one['seed']}$", words, re.M) for one in queued)
    assert words.count(RING) == 2 and max(map(len, words.splitlines())) <= 80


def test_status_counts_the_queue_and_names_batches_and_champion(store, champion):
    submit(RING, STAR, "--count", 2)
    batch = store.seal_batch([record.id for record in store.waiting(limit=3)], time_limit_s=60)
    seen = json.loads(run("status", "--json").stdout)
    assert seen["queue"] == {"assigned": 3, "queued": 1}
    assert [(one["id"], one["requests"]) for one in seen["batches"]] == [(batch.id, 3)]
    assert (seen["champion"]["label"], seen["champion"]["targets"]["cpu"]["precision"]) == ("videogen-tiny@1", "fp32")
    words = run("status").stdout
    assert batch.id in words and "videogen-tiny@1 (cpu fp32)" in words and "3 assigned, 1 queued" in words


def test_status_of_an_empty_installation_says_how_to_begin(home):
    result = run("status")
    assert result.exit_code == 0
    assert "none yet: make demo" in result.stdout and "empty" in result.stdout


def test_the_list_of_an_empty_installation_says_how_to_begin_and_nothing_of_mlflow(home):
    command = [sys.executable, "-c", "from videogen.cli import app; app()", "models", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert listed.stderr == "" and listed.stdout.startswith("no version of any model yet; make one with: make demo, or")


def test_an_unknown_request_is_one_line(home):
    result = run("show", "no-such-request")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "no-such-request" in result.stderr


def test_models_are_registered_listed_and_explained(home, store, model, mlflow_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    (model / "README.md").write_text("# Random\nIt knows nothing.")
    first = run("models", "register", model, "--name", "videogen-tiny", "--description", "random")
    assert first.exit_code == 0, first.output
    label, digest = first.stdout.split()
    assert label == "videogen-tiny@1"
    assert run("models", "register", model, "--name", "videogen-tiny").stdout == first.stdout
    store.promote("videogen-tiny", Champion(digest, label, {}), 0)
    listed = run("models", "list").stdout
    assert "champion" in listed and digest[:12] in listed and "random" in listed
    run("models", "promote", label)
    assert "candidate" in run("models", "info", label).stdout
    asked = asked_of(mlflow_uri, label)
    assert "is the candidate of videogen-tiny" in run("models", "promote", label).stdout
    assert asked_of(mlflow_uri, label) != asked
    assert "It knows nothing." in run("models", "card", label).stdout
    assert (
        "none" in run("models", "list", "other").stdout
        or "no version of other" in run("models", "list", "other").stdout
    )


@pytest.fixture
def registry(home, mlflow_uri, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_uri)
    return ModelRegistry(mlflow_uri)


def test_a_decision_is_listed_in_short_and_told_in_full(registry, store, model):
    version = registry.register("videogen-tiny", model, "random")
    reason = f"no regression: {'the clips are worse, ' * 10}and that is all"
    assert re.search(r"^  decision +none yet$", run("models", "info", version.label).stdout, re.M)
    registry.set_tags("videogen-tiny", 1, {"videogen.decision": "refused", "videogen.reason": reason})
    listed = " ".join(run("models", "list").stdout.split())
    assert "decided" in listed and "refused: no regression: the clips are worse" in listed and "…" in listed
    assert "that is all" not in listed
    told = run("models", "info", version.label).stdout
    assert re.search(r"^  decision +refused$", told, re.M) and re.search(rf"^  reason +{reason}$", told, re.M)
    assert told.count("refused") == 1


def test_the_list_breaks_no_word_on_a_narrow_terminal(registry, store, model, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    description = "few steps, without guidance, trained for longer than the one before it and distilled"
    version = registry.register("videogen-tiny", model, description)
    registry.set_alias("videogen-tiny", CANDIDATE, 1)
    reason = "no regression: inconclusive after thirty-two videos"
    registry.set_tags("videogen-tiny", 1, {"videogen.decision": "refused", "videogen.reason": reason})
    listed = run("models", "list").stdout
    assert max(map(len, listed.splitlines())) <= 80
    assert re.search(rf"^videogen-tiny@1 +{version.digest[:12]} +candidate$", listed, re.M)
    assert f"refused: {reason} {description}" in " ".join(listed.split())


def test_distances_are_told_with_their_floor_and_how_to_read_them(home, registry, model):
    distances = {"fvd": 463.2, "n": 32, "kvd": {"value": -1072.0, "low": -4928.0, "high": 2575.0},
                 "floor": {"fvd": 1124.6, "kvd_low": -480.0, "kvd_high": 1516.0}}  # fmt: skip
    kept = Artifacts(str(home / "artifacts"))
    kept.build(JUDGEMENTS, "found", lambda to: (to / DISTANCES).write_text(json.dumps(distances)))
    version = registry.register("videogen-tiny", model)
    assert "FVD" not in run("models", "info", version.label).stdout
    registry.set_tags("videogen-tiny", 1, {"judgement": "found"})
    told = run("models", "info", version.label).stdout
    assert re.search(r"FVD +463 on 32 clips; floor 1125$", told, re.M)
    assert re.search(r"KVD +-1072 \[-4928, 2575\] on 32 clips; floor \[-480, 1516\]$", told, re.M)
    assert HOW_TO_READ in told


def test_what_names_no_version_or_model_is_bad_input(registry, store, model, tmp_path):
    registry.register("videogen-tiny", model)
    (tmp_path / "empty").mkdir()
    pickled = shutil.copytree(model, tmp_path / "pickled")
    (pickled / "weights.pkl").write_bytes(b"\x80\x04.")
    for arguments, words in (
        (["info", "@99"], "'@99'"),
        (["info", "videogen-tiny@99"], "videogen-tiny@99"),
        (["promote", "nope@1"], "nope@1"),
        (["card", "nope@1"], "nope@1"),
        (["rollback", "nope"], "'nope'"),
        (["register", tmp_path / "missing", "--name", "m"], "missing"),
        (["register", tmp_path / "empty", "--name", "m"], "model_index.json"),
        (["register", pickled, "--name", "m"], "weights.pkl"),
        (["register", model, "--name", "a@b"], "'a@b'"),
    ):
        result = run("models", *arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
        assert words in result.stderr
    assert registry.models() == ["videogen-tiny"]


def test_rollback_brings_the_previous_champion_back(store, champion):
    store.promote("videogen-tiny", Champion("2" * 64, "videogen-tiny@2", {}), champion.generation)
    result = run("models", "rollback", "videogen-tiny")
    assert (result.exit_code, result.stdout) == (0, "videogen-tiny@1 serves videogen-tiny again\n")
    assert store.champion("videogen-tiny").version_digest == champion.version_digest
    again = run("models", "rollback", "videogen-tiny")
    assert (again.exit_code, again.stderr.count("\n")) == (1, 1)
    assert "no previous champion" in again.stderr and "videogen models promote videogen-tiny@2" in again.stderr


def test_the_first_champion_has_nothing_to_go_back_to(store, champion):
    first = run("models", "rollback", "videogen-tiny")
    assert first.exit_code == 1 and "videogen models promote videogen-tiny@NUMBER" in first.stderr


def test_the_champion_is_not_measured_against_itself_unless_that_is_asked_for(registry, store, champion, model):
    assert registry.register("videogen-tiny", model).digest == champion.version_digest
    told = run("models", "promote", "videogen-tiny@1")
    assert (told.exit_code, told.stderr) == (0, "") and "is the champion of videogen-tiny already" in told.stdout
    assert registry.aliases("videogen-tiny") == {} and ASKED not in registry.version("videogen-tiny", 1).tags
    assert "is the candidate" in run("models", "promote", "videogen-tiny@1", "--again").stdout
    assert registry.aliases("videogen-tiny") == {CANDIDATE: 1}


def test_the_champion_is_a_candidate_on_a_target_that_it_has_no_engine_for(
    registry, store, champion, model, monkeypatch
):
    registry.register("videogen-tiny", model)
    monkeypatch.setenv("VIDEOGEN_TARGETS", "cpu,tensorrt")
    assert "is the candidate" in run("models", "promote", "videogen-tiny@1").stdout


def test_doctor_finds_each_part_and_counts_what_waits(store, champion):
    submit(RING, STAR)
    result = run("doctor", "--quick")
    assert result.exit_code == 0, result.output
    for words in ("2 requests wait", "1 weights", "H.264", "cores", "torch 2.13"):
        assert words in result.stdout, result.stdout


def test_doctor_names_what_is_broken_and_its_fix(store, champion, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VIDEOGEN_STORE_URL", f"embedded:{tmp_path}/file/store")
    monkeypatch.setenv("VIDEOGEN_TARGETS", "tensorrt")
    result = run("doctor", "--quick")
    assert result.exit_code == 1
    assert "2 to fix" in result.stdout
    assert "set VIDEOGEN_STORE_URL" in result.stdout and "pypi.nvidia.com" in result.stdout


def test_doctor_tells_a_daemon_that_runs_from_one_that_did(home, store):
    """A real instance; the heartbeats are what a daemon writes every half minute."""
    from datetime import UTC, datetime, timedelta

    (home / "dagster").mkdir(parents=True)
    (home / "dagster" / "dagster.yaml").write_text("")
    assert "is not running" in run("doctor", "--quick").stdout
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        for minutes, words in ((30, "last alive 30 min ago"), (0, "is alive")):
            at = datetime.now(UTC) - timedelta(minutes=minutes)
            instance.add_daemon_heartbeat(DaemonHeartbeat(at.timestamp(), "SENSOR", "one", []))
            assert words in run("doctor", "--quick").stdout
