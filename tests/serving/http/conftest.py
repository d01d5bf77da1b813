import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest


@dataclass(frozen=True)
class Served:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real `videogen serve` with a synthetic device; ports are its own choice."""
    folder = tmp_path_factory.mktemp("serve")
    log = folder / "log"
    command = [
        str(Path(sys.executable).with_name("videogen")),
        "serve",
        "--synthetic",
        "--http-port",
        "0",
        "--grpc-port",
        "0",
    ]
    environment = os.environ | {"VIDEOGEN_HOME": str(folder / "home"), "VIDEOGEN_WEBHOOK_SECRET": "whsec_c2lnbiBtZQ=="}
    environment["VIDEOGEN_OUTGOING_ALLOW"] = "127.0.0.1"
    with log.open("w") as out, subprocess.Popen(command, env=environment, stdout=out, stderr=out) as process:
        try:
            deadline = time.monotonic() + 60
            while not (found := re.search(r"http://127\.0\.0\.1:(\d+)", log.read_text())):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield Served(int(found[1]))
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0, log.read_text()
        finally:
            process.kill()


@pytest.fixture
def client(server: Served) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client
