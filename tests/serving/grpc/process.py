"""`videogen serve` in a process of its own, on a device without networks."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

STARTS_S = 60.0


@contextmanager
def served(folder: Path, *options: str) -> Iterator[str]:
    """The address of its gRPC. It is asked to end afterwards, and must do so without an error."""
    told = folder / "told.txt"
    environment = {**os.environ, "VIDEOGEN_HOME": str(folder / "home"), "PYTHONUNBUFFERED": "1"}
    videogen = Path(sys.executable).with_name("videogen")
    command = [videogen, "serve", "--synthetic", "--http-port", "0", "--grpc-port", "0"]
    with told.open("w") as out:
        process = subprocess.Popen([*command, *options], env=environment, stdout=out, stderr=subprocess.STDOUT)
    try:
        yield _address(process, told)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0, told.read_text()


def _address(process: subprocess.Popen[bytes], told: Path) -> str:
    ends = time.monotonic() + STARTS_S
    while time.monotonic() < ends and process.poll() is None:
        if found := re.search(r"gRPC +(\S+:\d+)", told.read_text()):
            return found[1]
        time.sleep(0.1)
    raise AssertionError(told.read_text())
