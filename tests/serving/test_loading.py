"""`videogen serve` says part by part what it does until it serves, and only what it does."""

import json
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.fixtures.random_models import write_random_tiny
from tests.serving.running import serving

PARTS = (
    r"looking for an engine for cpu that is proven on this machine",
    r"exporting the graphs in fp32: done in [\d.]+ s",
    r"making the reference's 8 videos with PyTorch: done in [\d.]+ s",
    r"building onnxruntime fp32: done in [\d.]+ s",
    r"comparing the videos of onnxruntime fp32 with the reference's: done in [\d.]+ s",
    r"onnxruntime fp32 may serve: .*mean PSNR [\d.]+ dB .* at least 30 dB; .*mean SSIM .* at least 0.95",
    r"building openvino fp32: done in [\d.]+ s",
    r"comparing the videos of openvino fp32 with the reference's: done in [\d.]+ s",
    r"timing the engines that may serve: done in [\d.]+ s",
    r"loading the engine that is proven here: done in [\d.]+ s",
    r"warming \w+ \w+ at every shape: done in [\d.]+ s",
    r"making a first video: done in [\d.]+ s",
)
"""What an engine takes that isn't there, in its order."""
OF_EVERY_START = [0, 9, 10, 11]
GATES = Path("videogen/quality/gates.toml")


@pytest.fixture
def start(tmp_path, skeletons):
    """Serves a small random model, and gives the messages that were logged before it answered, or ended."""
    folder, home = write_random_tiny(tmp_path / "model"), tmp_path / "home"
    shutil.copytree(skeletons, tmp_path / "artifacts" / skeletons.name)
    options = ("--model", str(folder), "--ungated", "--log-format", "json")
    environment = {"VIDEOGEN_ARTIFACTS_URL": str(tmp_path / "artifacts")}

    def messages(name: str, *, ends: bool = False, **more: str) -> list[str]:
        with (
            pytest.raises(AssertionError) if ends else nullcontext(),
            serving(home, None, *options, name=name, synthetic=False, seconds=150, **environment, **more),
        ):
            pass
        lines = (home / f"{name}.log").read_text().splitlines()
        return [json.loads(line)["message"] for line in lines if line.startswith("{")]

    return messages


def told(messages: list[str]) -> list[int]:
    """The parts that messages tell, by their numbers."""
    return [number for one in messages for number, part in enumerate(PARTS) if re.search(part, one)]


@pytest.mark.slow
def test_what_an_engine_takes_is_told_part_by_part_and_of_one_that_is_there_only_what_is_done(start):
    first = start("first")
    assert told(first) == list(range(len(PARTS))), first
    assert not any("whether they are proven" in one for one in first), "it looked for a proof while it made one"
    again = start("again")
    assert told(again) == OF_EVERY_START, again


@pytest.mark.slow
def test_what_the_gate_found_is_told_of_engines_that_may_not_serve(start, tmp_path):
    gates = tmp_path / "gates.toml"
    gates.write_text(re.sub(r"psnr_db = .*", "psnr_db = 101", GATES.read_text()))  # equal videos have 100
    messages = start("refused", ends=True, VIDEOGEN_GATES=str(gates))
    refusals = (re.fullmatch("(.*: )?(.*) may not serve: .*should be at least 101 dB.*", one) for one in messages)
    refused = [refusal[2] for refusal in refusals if refusal]
    assert refused[:2] == ["onnxruntime fp32", "openvino fp32"], messages
    assert refused[-1] == "onnxruntime fp32", "the plainest is judged at last, for the record"
    assert "may serve" not in " ".join(messages)
