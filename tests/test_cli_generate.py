import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.fixtures.random_models import write_random_tiny
from videogen.artifacts import Artifacts
from videogen.cli import app
from videogen.engines.builders import builder_for
from videogen.engines.cache import ensure_engine
from videogen.manifest import build_manifest
from videogen.media.mp4 import decode_mp4
from videogen.resolve import WEIGHTS
from videogen.store.records import Champion, ServedEngine
from videogen.store.store import Store

PROMPT = "a large red ring moving left on a dotted background"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_random_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIDEOGEN_THREADS", "1")
    return lambda *arguments: CliRunner().invoke(app, ["generate", *map(str, arguments)])


def test_a_folder_gives_a_video_and_the_same_seed_the_same_bytes(run, folder, tmp_path):
    first = run(PROMPT, "--model", folder, "--seed", 5, "-o", tmp_path / "new" / "first.mp4")
    assert first.exit_code == 0, first.output
    assert "seed 5" in first.stdout and "torch fp32" in first.stdout
    assert decode_mp4((tmp_path / "new" / "first.mp4").read_bytes()).shape == (16, 64, 64, 3)
    run(PROMPT, "--model", folder, "--seed", 5, "-o", "again.mp4")
    run(PROMPT, "--model", folder, "--seed", 6, "-o", "other.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == (tmp_path / "new" / "first.mp4").read_bytes()
    assert (tmp_path / "other.mp4").read_bytes() != (tmp_path / "again.mp4").read_bytes()


def test_without_a_name_the_file_is_called_by_the_prompt(run, folder, tmp_path):
    result = run(PROMPT, "--model", folder)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a-large-red-ring-moving-left-on-a-dotted-background.mp4").exists()


def test_a_name_made_of_the_prompt_holds_no_punctuation(run, folder, tmp_path):
    result = run("A red ring, moving left!", "--model", folder, "--steps", 1)
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.glob("*.mp4")] == ["a-red-ring-moving-left.mp4"]


@pytest.mark.parametrize("name", ["ring.gif", "ring.webp", "ring"])
def test_a_name_that_promises_another_format_is_refused(run, folder, tmp_path, name):
    result = run(PROMPT, "--model", folder, "-o", tmp_path / name)
    assert result.exit_code == 2
    assert ".mp4" in result.stderr and not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a purple ring"], ["prompt", "'purple'", "the model knows", "pink"]),
        ([""], ["prompt", "''", "not empty"]),
        (["a red ring", "--steps", "0"], ["num_inference_steps", "got 0", "1 to 50"]),
        (["a red ring", "--seed", "-1"], ["seed", "got -1", "allowed"]),
        (["red " * 3000], ["prompt", "12,000 characters", "at most"]),
    ],
)
def test_bad_input_is_one_line_that_names_the_field_and_what_is_allowed(run, folder, tmp_path, arguments, words):
    result = run(*arguments, "--model", folder)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("videogen: ")
    assert all(word in result.stderr for word in words), result.stderr
    assert not list(tmp_path.glob("*.mp4"))


def test_a_folder_without_a_model_is_refused_without_a_traceback(run, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(PROMPT, "--model", tmp_path / "empty")
    assert result.exit_code == 2
    assert "model_index.json does not exist" in result.stderr and "Traceback" not in result.output


def test_a_champion_runs_on_the_engine_that_passed_its_gates_and_gives_the_same_video(
    run, folder, tmp_path, skeletons, monkeypatch
):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    shutil.copytree(skeletons, tmp_path / "home" / "artifacts" / skeletons.name)
    artifacts, digest = Artifacts(str(tmp_path / "home" / "artifacts")), build_manifest(folder).digest
    artifacts.build(WEIGHTS, digest, lambda to: shutil.copytree(folder, to, dirs_exist_ok=True))
    engine = ensure_engine(artifacts, folder, digest, builder_for("onnxruntime"), "fp32")
    served = {"cpu": ServedEngine(engine.key.digest, "fp32", "report")}
    with Store.open(f"embedded:{tmp_path / 'home' / 'store'}") as store:
        store.promote("videogen-tiny", Champion(digest, "videogen-tiny@1", served), 0)
    result = run(PROMPT, "--seed", 5, "-o", "champion.mp4")
    assert result.exit_code == 0, result.output
    assert "videogen-tiny@1" in result.stdout and "onnxruntime fp32" in result.stdout
    run(PROMPT, "--model", folder, "--seed", 5, "-o", "torch.mp4")
    videos = [decode_mp4((tmp_path / name).read_bytes()).astype(int) for name in ("champion.mp4", "torch.mp4")]
    assert np.abs(videos[0] - videos[1]).mean() < 1


def test_a_model_that_is_neither_folder_nor_champion_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path / "home"))
    for model, words in (("models/missing", "a folder that exists"), ("nobody", "nobody has none yet")):
        result = run(PROMPT, "--model", model)
        assert result.exit_code == 2
        assert words in result.stderr
