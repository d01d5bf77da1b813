"""`make demo`, told whole on a machine where nothing is there yet, and told again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.timings import read_tellings
from videogen.media.mp4 import decode_mp4
from videogen.opening import open_registry, open_store
from videogen.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
REQUESTS = 12


def tell(home: Path) -> str:
    environment = {**os.environ, "VIDEOGEN_HOME": str(home)}
    environment.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, "-m", "deploy.local.demo"]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout + told.stderr
    return told.stdout


@pytest.mark.story
@pytest.mark.timeout(1200)
def test_the_whole_story_and_the_second_telling(tmp_path, monkeypatch):
    story = tell(tmp_path)
    assert "videogen-tiny@1 is promoted" in story and "videogen-tiny@2 is promoted" in story
    refusal = story[story.index("videogen-tiny@3 is refused") :]
    assert "prompt_agreement: fail" in refusal
    assert f"✓ {REQUESTS} videos" in story

    monkeypatch.setenv("VIDEOGEN_HOME", str(tmp_path))
    settings = read_settings()
    with open_store(settings) as store:
        champion = store.champion("videogen-tiny")
        assert champion.label == "videogen-tiny@2" and champion.previous.label == "videogen-tiny@1"
        assert len(store.requests(["done"])) == REQUESTS
    registry = open_registry(settings)
    assert registry.aliases("videogen-tiny") == {"champion": 2}
    assert all(registry.version("videogen-tiny", number).tags["evaluation_run_id"] for number in (1, 2, 3))

    videos = sorted((tmp_path / "demo" / "videos").glob("*.mp4"))
    assert len(videos) == REQUESTS
    assert all(decode_mp4(video.read_bytes()).shape == (16, 64, 64, 3) for video in videos)
    assert (tmp_path / "demo" / "contact-sheet.png").stat().st_size > 10_000
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:video/mp4;base64,") >= REQUESTS and 'src="http' not in page

    again = tell(tmp_path)
    assert "Everything was there already and unchanged" in again
    first, second = read_tellings(tmp_path / "demo" / "timings.json")
    assert not any(phase["reused"] for phase in first["phases"] if phase["name"] != "fetch I3D")
    assert all(phase["reused"] for phase in second["phases"] if phase["name"] != "report")
