"""The pages' ways to a video, each command run as it is written."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from videogen.media.mp4 import decode_mp4

ROOT = Path(__file__).resolve().parents[3]
HTTP = (ROOT / "docs" / "serving.md").read_text().split("## gRPC")[0]
README = (ROOT / "README.md").read_text().split("## The service")[1].split("## Settings")[0]


def block(language, server, number=0, page=HTTP):
    found = re.findall(rf"^```{language}\n(.*?)^```$", page, re.S | re.M)[number]
    return found.replace("127.0.0.1:8000", f"127.0.0.1:{server.http}").replace(":50051", f":{server.grpc}")


def test_readme_with_curl(server, tmp_path):
    _, command = block("sh", server, page=README).split("\n", 1)
    subprocess.run(["bash", "-euc", command], cwd=tmp_path, check=True, timeout=120)
    assert decode_mp4((tmp_path / "ring.mp4").read_bytes()).ndim == 4


def test_readme_with_the_openai_package_and_the_client_of_grpc(server, tmp_path):
    code = block("python", server, page=README) + block("python", server, 1, page=README)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    told = [int(line.removesuffix("%")) for line in done.stdout.splitlines()]
    assert told == sorted(told) and told[-1] == 100 and len({share for share in told if 0 < share < 100}) > 1, told
    assert decode_mp4((tmp_path / "star.mp4").read_bytes()).ndim == 4
    assert decode_mp4((tmp_path / "square.mp4").read_bytes()).ndim == 4


def test_with_curl(server, tmp_path):
    script = "set -eu\n" + block("sh", server)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "event: video.completed" in done.stdout, done.stdout + done.stderr
    whole = (tmp_path / "ring.mp4").read_bytes()
    assert decode_mp4(whole).ndim == decode_mp4((tmp_path / "green.mp4").read_bytes()).ndim == 4
    assert (tmp_path / "start.mp4").read_bytes() == whole[:100]
    assert Image.open(tmp_path / "ring.jpg").format == "JPEG" and '"remixed_from_video_id":"' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_is_cancelled_with_curl_where_videos_take_a_tenth_of_a_second(shipped, tmp_path):
    accepted, cancelled, deleted = answers(block("sh", shipped, 1), tmp_path)
    assert (accepted["status"], accepted["cancelled"]) == ("queued", False)
    assert (cancelled["status"], cancelled["cancelled"], cancelled["error"]["code"]) == ("failed", True, "cancelled")
    assert deleted == {"id": accepted["id"], "object": "video.deleted", "deleted": True}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_job_is_changed_with_curl_where_videos_take_a_tenth_of_a_second(shipped, tmp_path):
    accepted, changed = answers(block("sh", shipped, 2), tmp_path)
    assert (accepted["prompt"], accepted["changes"]) == ("a large red ring moving left", [])
    (change,) = changed["changes"]
    assert change["prompt"] == "a large blue ring moving left" and changed["id"] == accepted["id"]
    assert shipped.end_of(accepted["id"], 240)["changes"] == [change]


def answers(commands, folder):
    """The JSON objects that the commands print, one after the other."""
    done = subprocess.run(["bash", "-euc", commands], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    told, at = [], 0
    while at < len(done.stdout):
        one, at = json.JSONDecoder().raw_decode(done.stdout, at)
        told.append(one)
    return told


def test_with_the_openai_package(server, tmp_path):
    subprocess.run([sys.executable, "-c", block("python", server)], cwd=tmp_path, check=True, timeout=120)
    assert decode_mp4((tmp_path / "ring.mp4").read_bytes()).ndim == 4
    assert Image.open(tmp_path / "ring.webp").format == "WEBP"
