"""What the README tells a newcomer to type exists, and every setting it lists is read somewhere."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from videogen.cli import app
from videogen.models.tiny_tokenizer import TinyTokenizer
from videogen.world.grammar import vocabulary

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.S | re.M)
LINES = [line for language, block in BLOCKS if not language for line in block.splitlines()]
COMMANDS = [shlex.split(line, comments=True)[1:] for line in LINES if line.startswith("videogen ")]
SOURCES = [path for folder in ("videogen", "resources", "deploy") for path in (ROOT / folder).rglob("*.py")]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 8
    assert {command[0] for command in COMMANDS} >= {"submit", "status", "show", "generate", "models", "doctor"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_that_names_its_options(command):
    path = command[:2] if command[0] in ("models", "store") else command[:1]
    result = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0, result.output
    for option in (word for word in command if word.startswith("--")):
        assert option in result.output


def test_each_prompt_is_one_that_the_default_model_understands():
    prompts = [command[1] for command in COMMANDS if command[0] in ("generate", "submit") and " " in command[1]]
    assert len(prompts) >= 2
    TinyTokenizer(vocabulary())(prompts)


def test_each_make_target_exists_and_says_what_it_does():
    targets = set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert (
        set(re.findall(r"\bmake ([a-z-]+)", README.split("You need Linux")[0] + README.split("## Working on it")[1]))
        <= targets
    )


def test_the_settings_table_and_the_code_name_the_same_variables():
    read = set(re.findall(r'"(VIDEOGEN_[A-Z0-9_]+)"', "".join(path.read_text() for path in SOURCES)))
    listed = set(re.findall(r"^\| `(VIDEOGEN_[A-Z0-9_]+)`", README, re.M))
    assert listed == read


def test_every_local_link_leads_somewhere():
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
