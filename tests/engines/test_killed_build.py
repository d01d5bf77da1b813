"""A build that is killed leaves nothing that could be taken for an engine, and nothing in the way of the next build."""

import shutil
import subprocess
import sys

import pytest

from tests.engines.killed_build import STAGES
from videogen.artifacts import Artifacts
from videogen.engines.builders import builder_for
from videogen.engines.cache import ENGINE_KIND, GRAPH_KIND, ensure_engine, load_engine


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_build_is_no_engine_and_the_next_one_is_whole(tmp_path, folder, digest, skeletons, graphs, stage):
    kept = skeletons if stage == "graph half written" else graphs.path.parent
    shutil.copytree(kept, tmp_path / kept.name)
    command = [sys.executable, "-m", "tests.engines.killed_build", str(tmp_path), str(folder), digest, stage]
    build = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert build.stdout is not None and build.stdout.readline().strip() == stage
    build.kill()
    build.wait()

    left = Artifacts(str(tmp_path))
    assert not list((tmp_path / ENGINE_KIND).glob("*/manifest.json")), "a half engine looks like a whole one"
    if stage == "graph half written":
        assert not list((tmp_path / GRAPH_KIND).glob("*/manifest.json"))
    stored = ensure_engine(left, folder, digest, builder_for("onnxruntime"), "fp32")
    assert stored.built
    assert load_engine(left, stored.key.digest).networks
