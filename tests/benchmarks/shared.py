"""What the benchmarks share: the machine they ran on, the shipped model on its engine, and tables."""

import platform
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil

from videogen.artifacts import Artifacts
from videogen.engines.base import Target
from videogen.engines.device import available_cores, cpu_architecture, cpu_name
from videogen.evaluation import evaluation_prompts, questions
from videogen.generate import Generator
from videogen.manifest import build_manifest
from videogen.requests import AcceptedRequest

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).parent / "results"
SHIPPED = ROOT / "models" / "videogen-tiny"
ARTIFACTS = ROOT / "var" / "artifacts"
SERVING: Target = "onnxruntime"
"""What the asset `engine` chose, of two CPU engines, on the machine of the committed results."""


def machine() -> str:
    """The machine in a line."""
    memory = psutil.virtual_memory().total / 2**30
    cores = f"{available_cores()} cores, {memory:.0f} GiB"
    return f"{cpu_name()} ({cpu_architecture()}), {cores}, {platform.system()}, Python {platform.python_version()}"


def command(module: str) -> str:
    """What was typed to run this module."""
    return shlex.join(["python", "-m", module, *sys.argv[1:]])


def write(name: str, title: str, module: str, lines: Sequence[str]) -> Path:
    """Writes a page of results, and prints it."""
    head = [f"# {title}", "", f"`{command(module)}`", "", f"{machine()}.", ""]
    path = RESULTS / f"{name}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*head, *lines]) + "\n")
    sys.stdout.write(path.read_text() + "\n")
    return path


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table, with an empty line before it."""
    cells = [head, ["---"] * len(head), *rows]
    return ["", *(f"| {' | '.join(map(str, row))} |" for row in cells)]


def shipped(version: str, target: Target = SERVING, streams: int = 1, batch_size: int = 1) -> Generator:
    """A generator with a version that ships, on an engine with so many streams of one thread."""
    from videogen.engines.builders import builder_for
    from videogen.engines.cache import ensure_engine, load_engine
    from videogen.models.wan import WanModel

    folder, artifacts = SHIPPED / version, Artifacts(str(ARTIFACTS))
    stored = ensure_engine(artifacts, folder, build_manifest(folder).digest, builder_for(target), "fp32")
    return Generator(WanModel(folder, load_engine(artifacts, stored.key.digest, 1, streams)), batch_size)


def held_out_requests(generator: Generator, count: int) -> list[AcceptedRequest]:
    """The first held-out prompts, at the model's own defaults."""
    return questions(evaluation_prompts(count), generator.model.spec, "benchmark", "benchmark", None)
