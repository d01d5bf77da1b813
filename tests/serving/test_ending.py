"""How `videogen serve` is told to end: while it loads, and once more while it finishes what is in hand."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving.running import ROOT, SECONDS, Serve, serving
from videogen.serving.ending import SAME_S

pytestmark = pytest.mark.slow
SERVE = [sys.executable, "-c", "from videogen.cli import app; app()", "serve", "--http-port", "0", "--grpc-port"]


def is_gone(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def until(holds, log: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_ctrl_c_ends_it_while_it_loads(tmp_path):
    log = tmp_path / "log"
    command = [*SERVE, "0", "--model", str(ROOT / "models/videogen-tiny/2"), "--ungated"]
    with log.open("w") as output:
        ours = {**os.environ, "VIDEOGEN_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen(command, env=ours, stdout=output, stderr=output)
    try:
        until(lambda: "loading videogen-tiny" in log.read_text(), log)
        engine = Serve(process, 0, 0, log).engine()
        os.kill(engine, signal.SIGSTOP)  # however long what it does would take
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0 and "ended before it was loaded" in log.read_text(), log.read_text()
        until(lambda: is_gone(engine), log)
    finally:
        process.kill()


def test_a_second_signal_ends_it_at_once(tmp_path):
    with serving(tmp_path / "home", None, "--grace", "600") as one:
        engine = one.engine()
        one.submit("a red ring", num_inference_steps=4)
        os.kill(engine, signal.SIGSTOP)
        one.submit("a red ring", num_inference_steps=50)
        one.process.terminate()
        one.process.send_signal(signal.SIGINT)  # so soon after the first, it is the same wish
        until(lambda: "within 600 s (--grace) or handed back; Ctrl-C once more ends it" in one.log.read_text(), one.log)
        time.sleep(SAME_S)
        assert one.process.poll() is None
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(SECONDS) == 128 + signal.SIGINT
        until(lambda: is_gone(engine), one.log)


def refused(tmp_path: Path, *arguments: str) -> str:
    ours = {**os.environ, "VIDEOGEN_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    told = subprocess.run([*SERVE, *arguments], env=ours, capture_output=True, text=True, timeout=SECONDS)
    assert told.returncode == 2 and "loading" not in told.stdout, told
    return told.stderr


def test_a_port_of_grpc_that_is_taken_is_told_before_anything_is_loaded(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"--grpc-port: got {port}" in refused(tmp_path, str(port), "--synthetic")


def test_a_folder_that_is_not_there_is_told_so(tmp_path):
    told = refused(tmp_path, "0", "--ungated", "--model", "nowhere")
    assert "--model: got 'nowhere'" in told and "there is no such folder" in told


def test_a_device_that_is_not_there_is_told_with_those_that_are(tmp_path):
    assert "--device: got '77'; allowed: cpu; " in refused(tmp_path, "0", "--synthetic", "--device", "77")
