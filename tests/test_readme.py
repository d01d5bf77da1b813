"""What the README tells a newcomer to type exists, every setting it lists is read, every link in a page leads on."""

import os
import re
import shlex
import subprocess
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
PAGES = sorted(
    subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
)
SOURCES = [path for folder in ("videogen", "resources", "deploy") for path in (ROOT / folder).rglob("*.py")]


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 8
    assert {command[0] for command in COMMANDS} >= {"submit", "status", "show", "generate", "models", "doctor"}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_each_command_has_help_that_names_its_options(command):
    path = command[:2] if command[0] in ("keys", "models", "store") else command[:1]
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


def test_make_help_stands_in_columns_and_names_every_target():
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    told = subprocess.run(["make", "help"], cwd=ROOT, env=alone, capture_output=True, text=True, check=True)
    lines = told.stdout.splitlines()
    said = [re.fullmatch(r"  make ([a-z-]+)( +)(\S.*)", line) for line in lines]
    assert {match[1] for match in said} == set(re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(), re.M))
    assert len({match.start(3) for match in said}) == 1 and all(len(match[2]) > 1 for match in said)


@pytest.mark.parametrize("page", PAGES)
def test_every_local_link_leads_somewhere(page):
    prose = re.sub(r"^```.*?^```$", "", (ROOT / page).read_text(), flags=re.S | re.M)
    for target, anchor in re.findall(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?\)", prose):
        found = (ROOT / page).parent / target if target else ROOT / page
        assert found.exists(), target
        assert not anchor or anchor[1:] in anchors(found.read_text()), f"{target}{anchor}"


def anchors(text):
    """What GitHub makes of the headings: lower case, spaces as hyphens, punctuation gone."""
    headings = re.findall(r"^#+ +(.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_to_check():
    assert {"README.md", "ARCHITECTURE.md", "docs/store.md"} <= set(PAGES)
