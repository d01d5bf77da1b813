import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videogen.cli import app
from videogen.store.records import Champion
from videogen.store.store import Store

HEAVY = (
    "torch",
    "numpy",
    "diffusers",
    "transformers",
    "mlflow",
    "dagster",
    "onnxruntime",
    "openvino",
    "av",
    "pydantic",
)


def run(*arguments, **environment):
    return CliRunner().invoke(app, arguments, env=environment)


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from typer.testing import CliRunner; from videogen.cli import app\n"
        "assert CliRunner().invoke(app, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_installed_command_starts():
    command = Path(sys.executable).parent / "videogen"
    done = subprocess.run([command, "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0
    for name in ("submit", "status", "show", "generate", "models", "doctor"):
        assert name in done.stdout


def test_it_says_which_version_it_is():
    result = run("--version")
    assert (result.exit_code, result.stdout) == (0, f"videogen {importlib.metadata.version('videogen')}\n")


def test_a_reader_that_wants_no_more_is_no_error(tmp_path):
    command = f"{sys.executable} -c 'from videogen.cli import app; app()' status | true"
    environment = {**os.environ, "VIDEOGEN_HOME": str(tmp_path)}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert done.stderr == ""


@pytest.mark.parametrize("command", [["status"], ["doctor"], ["show", "x"], ["models", "list"]])
def test_a_bad_setting_ends_every_command_with_one_line_and_code_2(command):
    result = run(*command, VIDEOGEN_TARGETS="cuda")
    assert result.exit_code == 2
    allowed = "a comma-separated list of cpu, tensorrt-rtx, tensorrt"
    assert result.stderr == f"videogen: VIDEOGEN_TARGETS: got 'cuda'; allowed: {allowed}\n"


@pytest.mark.parametrize(
    "label", ["videogen-tiny", "videogen-tiny@champion", "@2", "videogen-tiny@", "videogen-tiny@²"]
)
def test_a_version_that_is_no_label_is_refused(label):
    result = run("models", "promote", label)
    assert result.exit_code == 2
    assert f"version: got {label!r}" in result.stderr


@pytest.mark.parametrize(
    "url", ["foo://", "nonsense", "embedded:", "redis://127.0.0.1:port", "embedded:{here}/missing"]
)
def test_a_store_that_is_not_there_is_refused_and_nothing_is_made(tmp_path, url):
    bad, good = url.format(here=tmp_path), f"embedded:{tmp_path}/new"
    for command in (["doctor", bad], ["migrate", "--from", bad, "--to", good]):
        result = run("store", *command)
        assert result.exit_code == 2, result.output
        assert result.stderr.count("\n") == 1 and repr(bad) in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_records_is_no_source(tmp_path):
    with Store.open(f"embedded:{tmp_path}/empty"):
        pass
    result = run("store", "migrate", "--from", f"embedded:{tmp_path}/empty", "--to", f"embedded:{tmp_path}/new")
    assert result.exit_code == 2
    assert "holds none" in result.stderr and not (tmp_path / "new").exists()


def test_an_error_does_not_repeat_a_password():
    result = run("store", "doctor", "redis://me:secret@127.0.0.1:port")
    assert result.exit_code == 2 and "secret" not in result.output


@pytest.mark.parametrize("target", ["nonsense", "foo://"])
def test_a_target_that_names_no_store_is_refused(tmp_path, target):
    with Store.open(f"embedded:{tmp_path}/old") as store:
        store.promote("m", Champion("d" * 64, "m@1", {}), 0)
    result = run("store", "migrate", "--from", f"embedded:{tmp_path}/old", "--to", target)
    assert result.exit_code == 2 and repr(target) in result.stderr
